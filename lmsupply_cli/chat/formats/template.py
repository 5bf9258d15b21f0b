"""The model's own chat template, rendered by Jinja2 in its immutable sandbox.

The engine's own template code is not used: it gets common Jinja wrong without saying so.
Settings and globals are those of Hugging Face transformers.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from lmsupply_cli.chat.messages import ChatMessage, ChatRole
from lmsupply_cli.errors import ModelFilesError


class Template:
    name = "template"
    stop: tuple[str, ...] = ()

    def __init__(self, source: str, special: dict[str, str]) -> None:
        """Raises ModelFilesError for a template that does not parse."""
        from jinja2 import TemplateError
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.globals["raise_exception"] = _raise
        environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
        environment.filters["tojson"] = _to_json
        self._special = special
        try:
            self._template = environment.from_string(source)
        except TemplateError as error:
            raise ModelFilesError(
                f"the model's chat template does not parse: {error}", hint="--raw goes without it"
            ) from error

    def render(self, messages: Sequence[ChatMessage]) -> str:
        """A template that refuses a system message gets it folded into the first user turn."""
        from jinja2 import TemplateError

        try:
            return self._render(messages)
        except TemplateError as error:
            folded = fold_system(messages)
            if folded != list(messages):
                try:
                    return self._render(folded)
                except TemplateError:
                    pass
            raise ModelFilesError(f"the model's chat template fails: {error}", hint="--raw goes without it") from error

    def _render(self, messages: Sequence[ChatMessage]) -> str:
        from jinja2 import TemplateError

        rows = [{"role": str(m.role), "content": m.content} for m in messages]
        try:
            return self._template.render(messages=rows, add_generation_prompt=True, **self._special)
        except TemplateError:
            raise
        except Exception as error:  # a template is foreign code: whatever it raises is its failure
            raise TemplateError(f"{type(error).__name__}: {error}") from error


def fold_system(messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    """The system text in front of the first user message."""
    first, rest = messages[0], list(messages[1:])
    if first.role is not ChatRole.SYSTEM or not rest or rest[0].role is not ChatRole.USER:
        return list(messages)
    return [ChatMessage.user(f"{first.content}\n\n{rest[0].content}"), *rest[1:]]


def _raise(message: str) -> None:
    from jinja2 import TemplateError

    raise TemplateError(message)


def _to_json(value: Any, indent: int | None = None) -> str:
    import json

    return json.dumps(value, ensure_ascii=False, indent=indent)
