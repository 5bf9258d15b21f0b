"""The field `options`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from lmsupply_cli.server.body import MOST_STOPS, Form, Part, string_or_list, told_by
from lmsupply_cli.server.sampling import generation_options

# our option → its name in the field
_RENAMED = {"max_tokens": "num_predict", "repetition_penalty": "repeat_penalty"}
_SAME = ("temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty", "seed", "stop")
OPTION_NAMES: Mapping[str, str] = {ours: f"options.{theirs}" for ours, theirs in _RENAMED.items()} | {
    name: f"options.{name}" for name in _SAME
}
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {  # values of unsupported options that ask for nothing
    "mirostat": (0,),
    "tfs_z": (1,),
    "typical_p": (1,),
    "repeat_last_n": (-1,),
}


class Options(Part):
    """`num_ctx`: the context that is needed; `num_predict` -1 and -2: no limit but the context; `top_k` -1: all tokens;
    `seed` -1: another one each time; penalties treat a newline as any token."""

    num_ctx: int | None = Field(default=None, ge=1)
    num_predict: int | None = None
    penalize_newline: Literal[True] = True
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    stop: (
        Annotated[
            Annotated[str, Form("string")] | Annotated[list[str], Field(max_length=MOST_STOPS), Form("list")],
            told_by(string_or_list, "a string or a list of strings"),
        ]
        | None
    ) = None
    no_effect = frozenset(
        {
            "num_batch", "num_gpu", "main_gpu", "num_thread", "numa", "low_vram", "f16_kv", "use_mmap", "use_mlock",
            "logits_all",  # how a model is loaded is decided by the server
            "num_keep",  # nothing is ever cut, so everything is kept
            "mirostat_tau", "mirostat_eta",  # of mirostat
        }
    )  # fmt: skip
    unsupported = {  # noqa: RUF012  # a ClassVar of Part
        "mirostat": "use temperature, top_p and min_p",
        "tfs_z": "use top_p or min_p",
        "typical_p": "use top_p or min_p",
        "repeat_last_n": "penalties look at all tokens, as with -1; repeat_penalty 1 turns them off",
        "vocab_only": "models are loaded whole",
        "embedding_only": "embeddings are not supported",
    }

    @model_validator(mode="before")
    @classmethod
    def _without_neutral(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {name: value for name, value in values.items() if value not in _NEUTRAL.get(name, ())}

    def generation(self, more: Mapping[str, Any]) -> dict[str, Any]:
        """As generation options, with `more` of them. Raises ApiError that names the field."""
        values: dict[str, Any] = {name: getattr(self, name) for name in _SAME}
        values |= {ours: getattr(self, theirs) for ours, theirs in _RENAMED.items()} | dict(more)
        for name, unlimited in (("max_tokens", (-1, -2)), ("seed", (-1,))):
            if values[name] in unlimited:
                values[name] = None
        if values["top_k"] == -1:
            values["top_k"] = 0
        return generation_options(values, names=OPTION_NAMES)
