"""The body of POST /v1/completions."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from lmsupply_cli.server.body import Body, Form, told_by
from lmsupply_cli.server.openai.fields import NO_EFFECT, Sampling, StreamOptions

MOST_PROMPTS = 64
_FORMS = {str: "texts", list: "lists", int: "ids"}  # by the first of a list
Ids = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]


def _form(value: Any) -> str | None:
    if isinstance(value, str):
        return "text"
    if not isinstance(value, list) or not value:
        return None
    if isinstance(value[0], bool):
        return None
    return next((form for kind, form in _FORMS.items() if isinstance(value[0], kind)), None)


class CompletionBody(Body, Sampling):
    """`echo` puts the prompt before the answer, `suffix` is what stands behind it."""

    model: str = Field(min_length=1)
    prompt: Annotated[
        Annotated[str, Form("text")]
        | Annotated[list[str], Field(max_length=MOST_PROMPTS), Form("texts")]
        | Annotated[Ids, Form("ids")]
        | Annotated[list[Ids], Field(max_length=MOST_PROMPTS), Form("lists")],
        told_by(_form, "a text, a list of texts, a list of token ids, or a list of such lists"),
    ]
    suffix: str | None = None
    max_tokens: int | None = None
    n: int = Field(default=1, ge=1, le=16)
    best_of: int | None = None
    echo: bool = False
    logprobs: int | None = Field(default=None, ge=0)
    stream: bool = False
    stream_options: StreamOptions | None = None
    no_effect = NO_EFFECT
