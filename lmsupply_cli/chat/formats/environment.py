"""The environment in which Hugging Face transformers renders chat templates: tags, filters, globals, variables.

Also loaded as the handler of a worker, so it imports nothing of ours. Jinja2's sandbox keeps a template away from
Python's inside; that it ends, and how much it writes, only its process can see to.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace


class Failed(Exception):
    """The template's own failure, whatever it raised."""


class TooLong(Exception):
    """The text is longer than it may be."""


class GenerationTag(Extension):
    """`{% generation %}` marks what a model says, for training; rendered, it is what stands in it."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Any) -> Any:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller: Callable[[], str]) -> str:
        return caller()


class _Dict:
    """`dict(…)` and `dict.fromkeys(…)`, and nothing else of the type."""

    def __call__(self, *arguments: Any, **named: Any) -> dict[Any, Any]:
        return dict(*arguments, **named)

    def fromkeys(self, *arguments: Any) -> dict[Any, Any]:
        return dict.fromkeys(*arguments)


class _Namespace(Namespace):
    """No names that begin with an underscore: Python's inside is behind such."""

    def __init__(*arguments: Any, **named: Any) -> None:  # one of the names may be `self`
        for name in dict(*arguments[1:], **named):
            _check_name(name)
        Namespace.__init__(*arguments, **named)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        Namespace.__setitem__(self, name, value)


def _check_name(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace takes no name that begins with an underscore: {name!r}")


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)


def _to_json(
    x: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """Not Jinja2's own, which escapes HTML."""
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


@lru_cache(maxsize=8)
def compiled(source: str) -> Any:
    """Raises Failed for what does not parse: by Jinja2, or by Python, which allows 20 loops in each other."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag, "jinja2.ext.loopcontrols"]
    )
    environment.globals |= {"raise_exception": _raise, "dict": _Dict(), "namespace": _Namespace}
    environment.filters["tojson"] = _to_json
    try:
        return environment.from_string(source)
    except jinja2.TemplateError as error:
        raise Failed(str(error)) from None
    except (SyntaxError, RecursionError, ValueError) as error:
        raise Failed(f"{type(error).__name__}: {error}") from None


def render(source: str, variables: dict[str, Any], now: datetime, *, limit: int) -> str:
    """At most `limit` characters. Raises Failed, TooLong, MemoryError."""
    template = compiled(source)
    template.globals["strftime_now"] = now.strftime
    parts, length = [], 0
    try:
        for part in template.generate(**variables):
            length += len(part)
            if length > limit:
                raise TooLong
            parts.append(part)
    except (MemoryError, TooLong):
        raise
    except jinja2.TemplateError as error:
        raise Failed(str(error)) from None
    except Exception as error:  # foreign code: whatever it raises is its failure
        raise Failed(f"{type(error).__name__}: {error}") from None
    return "".join(parts)


def handle(request: dict[str, Any], limit_bytes: int) -> dict[str, Any]:
    """For a worker: parse the template of `request`, and render it where there are variables."""
    try:
        if "variables" not in request:
            compiled(request["source"])
            return {"answer": {"text": ""}}
        now = datetime.fromisoformat(request["now"])
        text = render(request["source"], request["variables"], now, limit=limit_bytes // 8)
    except Failed as failure:
        return {"answer": {"failure": str(failure)[:1000]}}
    except TooLong:
        return {"failed": "size", "text": "its text is too long"}
    return {"answer": {"text": text}}
