"""TextGeneratorBuilder: every choice of loading by name, checked together at the end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

from lmsupply_cli.chat.formatter import ChatFormatter
from lmsupply_cli.engine.guidance import Guidance
from lmsupply_cli.engine.options import GenerationKeywords, GenerationOptions
from lmsupply_cli.errors import UsageError
from lmsupply_cli.files import expanded, is_file, is_folder
from lmsupply_cli.generation.generator import TextGenerator
from lmsupply_cli.generation.load import load_plan
from lmsupply_cli.loading.options import LoadOptions
from lmsupply_cli.loading.plan import plan_first_load
from lmsupply_cli.memory.budget import MemoryOptions
from lmsupply_cli.serving.generator_pool import GeneratorPool


class TextGeneratorBuilder:
    """Each method sets one option and returns the builder.

    >>> from lmsupply import TextGeneratorBuilder
    >>> with TextGeneratorBuilder().with_model("guide").with_context(512).build() as model:
    ...     print(model.context_tokens)
    """

    def __init__(self) -> None:
        self._ref: str | None = None
        self._path: Path | None = None
        self._load = LoadOptions()
        self._changes: GenerationKeywords = {}
        self._formatter: ChatFormatter | None = None

    def with_model(self, ref: str) -> TextGeneratorBuilder:
        """An alias, `role:…` or `owner/repo[@revision][:variant]` that is installed."""
        self._ref = ref
        return self

    def with_model_path(self, path: Path | str) -> TextGeneratorBuilder:
        """A folder in ONNX Runtime GenAI format."""
        self._path = expanded(path)
        return self

    def with_provider(self, provider: str) -> TextGeneratorBuilder:
        """`auto`, `cpu`, `cuda`, `dml` or `webgpu`."""
        return self._set(provider=provider)

    def with_threads(self, threads: int) -> TextGeneratorBuilder:
        """Number of cores that the engine uses; by default all that it may."""
        return self._set(threads=threads)

    def with_context(self, tokens: int) -> TextGeneratorBuilder:
        """At most the model's own; it must fit the memory."""
        return self._set(context=tokens)

    def with_cache_dir(self, folder: Path | str) -> TextGeneratorBuilder:
        """The root of the model store."""
        return self._set(cache_dir=folder)

    def with_default_options(
        self, options: GenerationOptions | None = None, **changes: Unpack[GenerationKeywords]
    ) -> TextGeneratorBuilder:
        """Defaults for every call: a complete GenerationOptions, or single options that override the model's own."""
        self._changes.update(changes)
        return self._set(options=options) if options else self

    def with_chat_formatter(self, formatter: ChatFormatter | str) -> TextGeneratorBuilder:
        """A formatter, or the name of a chat format: a family's or a registered one."""
        if isinstance(formatter, str):
            return self._set(chat_format=formatter)
        self._formatter = formatter
        return self

    def with_memory_limit(self, limit: int | str | MemoryOptions) -> TextGeneratorBuilder:
        """Bytes, a text such as "8GB", or limits with their thresholds."""
        return self._set(memory_limit=limit)

    def with_guidance(self, guidance: Guidance) -> TextGeneratorBuilder:
        """Default guidance for calls that pass none."""
        return self._set(guidance=guidance)

    def with_speculation(self, speculative: str, *, draft_tokens: int = 4) -> TextGeneratorBuilder:
        """`ngram` or `draft:MODEL`."""
        return self._set(speculative=speculative, draft_tokens=draft_tokens)

    def with_thinking(self, enable: bool, *, effort: str | None = None) -> TextGeneratorBuilder:
        """Enable or disable reasoning, on models whose chat format supports it."""
        return self._set(enable_thinking=enable, reasoning_effort=effort)

    def with_trusted_files(self) -> TextGeneratorBuilder:
        """Let the folder load libraries and name files anywhere."""
        return self._set(trust_model_files=True)

    def build_pool(self, concurrency: int, *, queue_limit: int = 64, timeout_s: float | None = None) -> GeneratorPool:
        """Like `build`, for several threads: `concurrency` answers at once. Raises UsageError."""
        if concurrency < 1:
            raise UsageError("`concurrency` must be at least 1")
        return GeneratorPool(self.build(), concurrency=concurrency, queue_limit=queue_limit, timeout_s=timeout_s)

    def build(self) -> TextGenerator:
        """Load the model. Raises UsageError for options that can't be combined, and what `load` raises."""
        if self._ref and self._path:
            raise UsageError("with_model and with_model_path can't be combined", hint="use one of them")
        if not self._ref and not self._path:
            raise UsageError("no model was named", hint="call with_model or with_model_path")
        if self._formatter and self._load.chat_format:
            raise UsageError("two chat formatters were given", hint="use one of them")
        if self._path and not (is_folder(self._path) or is_file(self._path)):
            raise UsageError(f"no such folder: {self._path}")
        (self._load.options or GenerationOptions()).replaced(**self._changes)  # before anything is loaded
        plan = plan_first_load(self._path or self._ref or "", self._load)
        if self._changes:
            plan = replace(plan, generation=plan.generation.replaced(**self._changes))
        if self._formatter:
            own = replace(plan.format.format, formatter=self._formatter)
            plan = replace(plan, format=replace(plan.format, format=own))
        return load_plan(plan)

    def _set(self, **values: Any) -> TextGeneratorBuilder:
        self._load = replace(self._load, **values)
        return self
