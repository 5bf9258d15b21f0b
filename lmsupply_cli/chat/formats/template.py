"""The model's own chat template, rendered by Jinja2 in its immutable sandbox.

The engine's own template code is not used: it gets common Jinja wrong without saying so.
Settings and globals are those of Hugging Face transformers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from lmsupply_cli.chat.formats.families import fold_system
from lmsupply_cli.chat.messages import ChatMessage
from lmsupply_cli.errors import ModelFilesError

_HINT = "--chat-format NAME takes a family's format, run --raw goes without any"


class Template:
    name = "template"

    def __init__(
        self,
        source: str,
        special: Mapping[str, str],
        *,
        stop: tuple[str, ...] = (),
        stop_tokens: tuple[str, ...] = (),
        variables: Mapping[str, Any] | None = None,
    ) -> None:
        """`variables`: what templates of reasoning models ask for, such as enable_thinking.

        Raises ModelFilesError for a template that does not parse.
        """
        from jinja2 import TemplateError
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.globals["raise_exception"] = _raise
        environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
        environment.filters["tojson"] = _to_json
        self.source, self.stop, self.stop_tokens = source, stop, stop_tokens
        self._special, self.variables = special, dict(variables or {})
        try:
            self._template = environment.from_string(source)
        except TemplateError as error:
            raise ModelFilesError(f"the model's chat template does not parse: {error}", hint=_HINT) from error

    def with_variables(self, **variables: Any) -> Template:
        """The same template with other variables; those that it does not name change nothing."""
        return Template(self.source, self._special, stop=self.stop, stop_tokens=self.stop_tokens, variables=variables)

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
            raise ModelFilesError(f"the model's chat template fails: {error}", hint=_HINT) from error

    def _render(self, messages: Sequence[ChatMessage]) -> str:
        from jinja2 import TemplateError

        rows = [_row(m) for m in messages]
        try:
            rendered = self._template.render(
                messages=rows, add_generation_prompt=True, **self._special, **self.variables
            )
            return str(rendered)
        except TemplateError:
            raise
        except Exception as error:  # a template is foreign code: whatever it raises is its failure
            raise TemplateError(f"{type(error).__name__}: {error}") from error


def _row(message: ChatMessage) -> dict[str, str]:
    """Reasoning under the names that templates know: Qwen's and gpt-oss's."""
    row = {"role": str(message.role), "content": message.content}
    if message.reasoning:
        row |= {"reasoning_content": message.reasoning, "thinking": message.reasoning}
    return row


def _raise(message: str) -> None:
    from jinja2 import TemplateError

    raise TemplateError(message)


def _to_json(value: Any, indent: int | None = None) -> str:
    import json

    return json.dumps(value, ensure_ascii=False, indent=indent)
