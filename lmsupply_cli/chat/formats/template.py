"""The model's own chat template, rendered as Hugging Face transformers does.

The engine's own template code is not used: it gets common Jinja wrong without saying so. A template is foreign code:
it runs in a worker, under limits of time, memory and output; only the guide's, which is ours, runs in this process.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from lmsupply_cli.chat.formats.families import fold_system, fold_systems
from lmsupply_cli.chat.messages import ChatMessage, ChatRole
from lmsupply_cli.errors import ModelFilesError
from lmsupply_cli.events import ToolCall
from lmsupply_cli.worker import Worker, WorkerFailed

LIMIT_S = 10.0  # a chat of ten thousand messages takes a tenth of a second
MEMORY_BYTES = 1 << 30
TEXT_BYTES = 256_000_000
_HINT = "use `chat_format` to choose a family's format, or `raw` for none"
_PROBE = "hello 4711"
_TOOL_PROBE = {"name": "probe_4711", "description": "x", "parameters": {"type": "object", "properties": {}}}
_CALL_PROBE = (  # with an id as Mistral's templates demand it
    ChatMessage.user(_PROBE),
    ChatMessage.assistant("", tool_calls=[ToolCall("abcdefghi", "probe_4712", '{"a": 4713}')]),
    ChatMessage.tool("4714", "abcdefghi"),
)
_LIMITS = {
    "time": "runs longer than {:g} seconds",
    "memory": f"needs more than {MEMORY_BYTES >> 30} GiB of memory",
    "size": f"writes more than {TEXT_BYTES // 8:,} characters",
}

_lock = threading.Lock()
_shared: weakref.ref[Worker] | None = None


def template_worker() -> Worker:
    """The one that renders all templates of this process; it is gone with the last of them."""
    global _shared
    with _lock:
        worker = _shared() if _shared else None
        if worker is None:
            handler = Path(__file__).with_name("environment.py")
            worker = Worker(handler, limit_s=LIMIT_S, memory_bytes=MEMORY_BYTES, answer_bytes=TEXT_BYTES)
            _shared = weakref.ref(worker)
        return worker


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
        trusted: bool = False,
        parts: bool = False,
    ) -> None:
        """`variables`: what templates of reasoning models ask for, such as enable_thinking; `trusted`: ours, so it runs
        in this process; `parts`: it reads the content of a message as a list of parts, as for images.

        Raises ModelFilesError for a template that does not parse.
        """
        self.source, self.stop, self.stop_tokens = source, stop, stop_tokens
        self.can_think = "enable_thinking" in source
        self._special, self.variables = special, dict(variables or {})
        self._trusted, self._parts = trusted, parts
        self._worker = None if trusted else template_worker()
        try:
            self._ask({"source": source})
        except _Failure as failure:
            raise ModelFilesError(f"the model's chat template does not parse: {failure}", hint=_HINT) from None

    def with_variables(self, **variables: Any) -> Template:
        """The same template with other variables; those that it does not name change nothing."""
        return self._changed(variables=variables, parts=self._parts)

    def fitted(self) -> Template:
        """The same template, given content as a list of parts where only so it shows the text of a message. Raises
        ModelFilesError for one that fails on the simplest chat."""
        try:
            if self._shows_text():
                return self
        except ModelFilesError as error:
            met_limit = isinstance(error.__cause__, WorkerFailed)
            if not met_limit and (other := self._in_parts()):
                return other
            raise
        return self._in_parts() or self

    @cached_property
    def shows_tools(self) -> bool:
        """Whether it writes tools, calls and results, as far as one chat shows it."""
        try:
            text = self.render(_CALL_PROBE, [{"type": "function", "function": _TOOL_PROBE}])
        except ModelFilesError:
            return False
        return all(word in text for word in ("probe_4711", "probe_4712", "4713", "4714"))

    def _in_parts(self) -> Template | None:
        other = self._changed(variables=self.variables, parts=True)
        try:
            return other if other._shows_text() else None
        except ModelFilesError:
            return None

    def _shows_text(self) -> bool:
        return _PROBE in self.render([ChatMessage.user(_PROBE)]).lower()

    def _changed(self, *, variables: Mapping[str, Any], parts: bool) -> Template:
        return Template(
            self.source,
            self._special,
            stop=self.stop,
            stop_tokens=self.stop_tokens,
            variables=variables,
            trusted=self._trusted,
            parts=parts,
        )

    def render(self, messages: Sequence[ChatMessage], tools: Sequence[Mapping[str, Any]] = ()) -> str:
        """A template that refuses a system message, or shows only one of several, gets it folded into a user turn. Raises
        ModelFilesError for one that fails or meets a limit. `tools`: in the form of OpenAI, as transformers passes
        them."""
        try:
            text = self._render(messages, tools)
            return text if _shows_systems(messages, text) else self._folded(messages, tools) or text
        except _Failure as failure:
            if text := self._folded(messages, tools):
                return text
            raise ModelFilesError(f"the model's chat template fails: {failure}", hint=_HINT) from None

    def _folded(self, messages: Sequence[ChatMessage], tools: Sequence[Mapping[str, Any]]) -> str:
        """With system messages in user turns, as few as needed; "" if that does not help."""
        if not any(message.role is ChatRole.SYSTEM for message in messages):
            return ""
        later = [messages[0], *fold_systems(messages[1:])]
        for folded in (fold_system(messages), later, fold_systems(messages)):
            with suppress(_Failure):
                text = self._render(folded, tools)
                if _shows_systems(folded, text):
                    return text
        return ""

    def _render(self, messages: Sequence[ChatMessage], tools: Sequence[Mapping[str, Any]]) -> str:
        names = {call.id: call.name for m in messages for call in m.tool_calls}
        variables = {
            "messages": [_row(m, names, parts=self._parts) for m in messages],
            "tools": list(tools) or None,
            "documents": None,
            "add_generation_prompt": True,
            **self._special,
            **self.variables,
        }
        return self._ask({"source": self.source, "variables": variables, "now": datetime.now().isoformat()})

    def _ask(self, request: dict[str, Any]) -> str:
        """The text. Raises _Failure for what the template raised, ModelFilesError for a limit."""
        if self._worker is None:
            from lmsupply_cli.chat.formats.environment import handle

            answer = handle(request, sys.maxsize)["answer"]  # ours needs no limit
        else:
            try:
                answer = self._worker.ask(request)
            except WorkerFailed as failure:
                if failure.reason == "start":
                    text = f"the process that renders chat templates does not start: {failure}"
                elif failure.reason == "died":
                    text = f"the model's chat template cannot be rendered: {failure}"
                else:
                    text = f"the model's chat template {_LIMITS[failure.reason].format(self._worker.limit_s)}"
                raise ModelFilesError(text, hint=_HINT) from failure
        if "failure" in answer:
            raise _Failure(" ".join(answer["failure"].split()))
        return str(answer["text"])


def _shows_systems(messages: Sequence[ChatMessage], text: str) -> bool:
    """Whether the system messages are all there, if there are several."""
    systems = [message.content.strip() for message in messages if message.role is ChatRole.SYSTEM]
    return len(systems) < 2 or all(system in text for system in systems)


class _Failure(Exception):
    """What a template raised, in one line."""


def _row(message: ChatMessage, names: Mapping[str, str], *, parts: bool) -> dict[str, Any]:
    """Reasoning under the names, and in the order, in which transformers gives it; the arguments of calls are objects.
    `names`: of tools, by the id of the call."""
    content = [{"type": "text", "text": message.content}] if parts else message.content
    row: dict[str, Any] = {"role": str(message.role), "content": content}
    if message.reasoning:
        row = {"thinking": message.reasoning, **row, "reasoning_content": message.reasoning}
    if message.tool_calls:
        row["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.values}}
            for call in message.tool_calls
        ]
    if message.tool_call_id:
        row |= {"name": names.get(message.tool_call_id, ""), "tool_call_id": message.tool_call_id}
    return row
