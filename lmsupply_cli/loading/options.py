"""How a model is loaded: one frozen value for the library, the command line, the builder and the pools."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import NoneType
from typing import Any, TypedDict

from lmsupply_cli.config.values import check_value
from lmsupply_cli.engine.guidance import Guidance
from lmsupply_cli.engine.options import GenerationOptions
from lmsupply_cli.errors import UsageError, did_you_mean
from lmsupply_cli.memory.budget import MemoryOptions

DRAFT = "draft:"
NGRAM = "ngram"


_KINDS: Mapping[str, tuple[tuple[type, ...], str]] = {
    "cache_dir": ((str, Path, NoneType), "a path"),
    "options": ((GenerationOptions, NoneType), "a GenerationOptions"),
    "guidance": ((Guidance, NoneType), "a Guidance"),
    "trust_model_files": ((bool,), "True or False"),
    "enable_thinking": ((bool,), "True or False"),
    "chat_format": ((str,), "a string"),
    "speculative": ((str,), "a string"),
    "reserve_tokens": ((int,), "a whole number"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """`context` in tokens, at most the model's own, and by default what fits the memory; `memory_limit` in bytes, as
    "8GB" or with thresholds; `chat_format` a family's or "template", by default what the model brings;
    `enable_thinking` and `reasoning_effort` for models whose chat format asks for them; `speculative` "off", "ngram" or
    "draft:MODEL", with at most `draft_tokens` draft tokens in a round; `options` and `guidance`: defaults of calls that
    give none, without `options` the model's own sampling values, then lmsupply's; `trust_model_files`: the folders of the
    model and of its draft model may load libraries and name files anywhere; `reserve_tokens`: KV cache to allocate from
    the start. Raises UsageError.
    """

    provider: str = "auto"
    threads: int | None = None
    context: int | None = None
    cache_dir: Path | str | None = None
    options: GenerationOptions | None = None
    guidance: Guidance | None = None
    memory_limit: int | str | MemoryOptions | None = None
    trust_model_files: bool = False
    chat_format: str = ""
    enable_thinking: bool = True
    reasoning_effort: str | None = None
    speculative: str = "off"
    draft_tokens: int = 4
    reserve_tokens: int = 0

    def __post_init__(self) -> None:
        for key in ("provider", "threads", "context", "draft_tokens", "reasoning_effort"):
            check_value(key, getattr(self, key))
        for name, (kinds, what) in _KINDS.items():
            value = getattr(self, name)
            if not isinstance(value, kinds):
                raise UsageError(f"`{name}` must be {what}, not {type(value).__name__}")
        if isinstance(self.reserve_tokens, bool) or self.reserve_tokens < 0:
            raise UsageError(f"`reserve_tokens` must be a whole number, at least 0, not {self.reserve_tokens!r}")
        if self.speculative not in ("off", NGRAM) and not self.draft_ref:
            raise UsageError(f"unknown value {self.speculative!r} of `speculative`", hint="off, ngram or draft:MODEL")

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> LoadOptions:
        """From keyword arguments. Raises UsageError for one that does not exist."""
        known = [field.name for field in fields(cls)]
        for name in values:
            if name not in known:
                hint = did_you_mean(name, known, "options: " + ", ".join(known))
                raise UsageError(f"unknown load option {name!r}", hint=hint)
        return cls(**values)

    @property
    def draft_ref(self) -> str:
        """The draft model, "" for none."""
        return self.speculative.removeprefix(DRAFT) if self.speculative.startswith(DRAFT) else ""

    @property
    def limits(self) -> MemoryOptions | None:
        """`memory_limit` with its thresholds."""
        limit = self.memory_limit
        return limit if isinstance(limit, MemoryOptions) or limit is None else MemoryOptions(limit)


class LoadKeywords(TypedDict, total=False):
    """The options of `load`, for type checkers."""

    provider: str
    threads: int | None
    context: int | None
    cache_dir: Path | str | None
    options: GenerationOptions | None
    guidance: Guidance | None
    memory_limit: int | str | MemoryOptions | None
    trust_model_files: bool
    chat_format: str
    enable_thinking: bool
    reasoning_effort: str | None
    speculative: str
    draft_tokens: int
    reserve_tokens: int
