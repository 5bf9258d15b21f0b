"""Chat formats of model families, for models that carry no template, or one that fails.

Each gives the text of the family's official template. `stop_tokens` are control strings that end an
answer, whether or not the model's config lists them; `stop` are texts that do. Those that take `tools` write them, calls
and results as the template does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from lmsupply_cli.chat.messages import ChatMessage, ChatRole

Tools = Sequence[Mapping[str, Any]]  # each in the form of OpenAI


def fold_system(messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    """The system text in front of the first user message: for formats without a system role."""
    first, rest = messages[0], list(messages[1:])
    if first.role is not ChatRole.SYSTEM or not rest or rest[0].role is not ChatRole.USER:
        return list(messages)
    return [ChatMessage.user(f"{first.content}\n\n{rest[0].content}"), *rest[1:]]


def fold_systems(messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    """Every system text in the user's turn that it stands in or before: for formats in which roles must alternate."""
    out: list[ChatMessage] = []
    for message in messages:
        if message.role is ChatRole.SYSTEM:
            message = ChatMessage.user(message.content)
        if out and out[-1].role is message.role is ChatRole.USER:
            out[-1] = ChatMessage.user(f"{out[-1].content}\n\n{message.content}")
        else:
            out.append(message)
    return out


class Phi3:
    """Phi-3 and 3.5. An empty system prompt is left out."""

    name = "phi3"
    stop: tuple[str, ...] = ()
    stop_tokens = ("<|end|>", "<|endoftext|>")

    def render(self, messages: Sequence[ChatMessage]) -> str:
        turns = [f"<|{m.role}|>\n{m.content}<|end|>\n" for m in messages if m.content or m.role is not ChatRole.SYSTEM]
        return "".join(turns) + "<|assistant|>\n"


class Phi4Mini:
    """As Phi-3, without line breaks."""

    name = "phi4-mini"
    stop: tuple[str, ...] = ()
    stop_tokens = ("<|end|>", "<|endoftext|>")

    def render(self, messages: Sequence[ChatMessage]) -> str:
        return "".join(f"<|{m.role}|>{m.content}<|end|>" for m in messages) + "<|assistant|>"


class Phi4:
    name = "phi4"
    stop: tuple[str, ...] = ()
    stop_tokens = ("<|im_end|>", "<|endoftext|>")

    def render(self, messages: Sequence[ChatMessage]) -> str:
        turns = [f"<|im_start|>{m.role}<|im_sep|>{m.content}<|im_end|>" for m in messages]
        return "".join(turns) + "<|im_start|>assistant<|im_sep|>"


@dataclass(frozen=True)
class Llama3:
    """Llama 3.1 and 3.2: the system turn is always there and begins with dates."""

    today: date | None = None
    name = "llama3"
    stop: tuple[str, ...] = ()
    stop_tokens = ("<|eot_id|>", "<|end_of_text|>", "<|eom_id|>")

    def render(self, messages: Sequence[ChatMessage], tools: Tools = ()) -> str:
        """With tools, the first message after the system prompt is the user's."""
        system, rest = _split_system(messages)
        today = (self.today or date.today()).strftime("%d %b %Y")
        dates = f"Cutting Knowledge Date: December 2023\nToday Date: {today}\n\n"
        turns = [self._turn("system", ("Environment: ipython\n" if tools else "") + dates + system.strip())]
        if tools and rest:
            listed = "".join(json.dumps(tool, ensure_ascii=False, indent=4) + "\n\n" for tool in tools)
            turns.append(self._turn("user", _LLAMA_TOOLS + listed + rest[0].content.strip()))
            rest = rest[1:]
        turns += map(self._message, rest)
        return "<|begin_of_text|>" + "".join(turns) + "<|start_header_id|>assistant<|end_header_id|>\n\n"

    def _message(self, message: ChatMessage) -> str:
        if message.tool_calls:
            call = message.tool_calls[0]
            arguments = json.dumps(call.values, ensure_ascii=False)
            return self._turn("assistant", f'{{"name": "{call.name}", "parameters": {arguments}}}')
        if message.role is ChatRole.TOOL:
            return self._turn("ipython", json.dumps(message.content, ensure_ascii=False))
        return self._turn(message.role, message.content.strip())

    @staticmethod
    def _turn(role: str, text: str) -> str:
        return f"<|start_header_id|>{role}<|end_header_id|>\n\n{text}<|eot_id|>"


class ChatML:
    name = "chatml"
    stop: tuple[str, ...] = ()
    stop_tokens = ("<|im_end|>", "<|endoftext|>")

    def render(self, messages: Sequence[ChatMessage]) -> str:
        turns = [f"<|im_start|>{m.role}\n{m.content}<|im_end|>\n" for m in messages]
        return "".join(turns) + "<|im_start|>assistant\n"


@dataclass(frozen=True)
class Qwen:
    """ChatML. Qwen2.5 (`can_think` off) has a system prompt of its own; Qwen3 (`can_think` on) has none, and an empty
    thought in front of the answer keeps it from thinking."""

    can_think: bool = False
    enable_thinking: bool = True
    name = "qwen"
    stop: tuple[str, ...] = ()
    stop_tokens = ("<|im_end|>", "<|endoftext|>")

    def render(self, messages: Sequence[ChatMessage], tools: Tools = ()) -> str:
        turns = list(messages)
        if self.can_think:
            turns = [_without_thought(m) if m.role is ChatRole.ASSISTANT else m for m in turns]
        elif turns[0].role is not ChatRole.SYSTEM:
            turns.insert(0, ChatMessage.system("You are Qwen, created by Alibaba Cloud. You are a helpful assistant."))
        if tools:
            system, turns = _split_system(turns)
            listed = _QWEN_TOOLS.format("".join(f"\n{json.dumps(tool, ensure_ascii=False)}" for tool in tools))
            turns = [ChatMessage.system(f"{system}\n\n{listed}" if system else listed), *turns]
        asked = max((at for at, m in enumerate(turns) if m.role is ChatRole.USER), default=len(turns))
        text = "".join(
            self._results(turns, at)
            if m.role is ChatRole.TOOL
            else self._turn(m, thought=self.can_think and at > asked and bool(m.reasoning or at == len(turns) - 1))
            for at, m in enumerate(turns)
        )
        quiet = self.can_think and not self.enable_thinking
        return text + "<|im_start|>assistant\n" + ("<think>\n\n</think>\n\n" if quiet else "")

    def _turn(self, message: ChatMessage, *, thought: bool) -> str:
        content = message.content
        if thought and message.role is ChatRole.ASSISTANT:  # Qwen3 keeps the thoughts of the turn that goes on
            thought_text = message.reasoning.strip("\n")
            content = f"<think>\n{thought_text}\n</think>\n\n" + content.lstrip("\n")
        calls = "\n".join(
            f'<tool_call>\n{{"name": "{call.name}", "arguments": {json.dumps(call.values, ensure_ascii=False)}}}\n'
            "</tool_call>"
            for call in message.tool_calls
        )
        between = "\n" if calls and message.content else ""
        return f"<|im_start|>{message.role}\n{content}{between}{calls}<|im_end|>\n"

    @staticmethod
    def _results(turns: Sequence[ChatMessage], at: int) -> str:
        """Results that follow each other share a turn of the user."""
        first = at == 0 or turns[at - 1].role is not ChatRole.TOOL
        last = at + 1 == len(turns) or turns[at + 1].role is not ChatRole.TOOL
        text = f"\n<tool_response>\n{turns[at].content}\n</tool_response>"
        return ("<|im_start|>user" if first else "") + text + ("<|im_end|>\n" if last else "")


class MistralV1:
    """Mistral 7B v0.1 and v0.2. Its tokenizer wants spaces; the system prompt goes into the first user turn."""

    name = "mistral-v1"
    stop: tuple[str, ...] = ()
    stop_tokens = ("</s>",)

    def render(self, messages: Sequence[ChatMessage]) -> str:
        turns = fold_system(messages)
        return "<s>" + "".join(
            f"[INST] {m.content} [/INST]" if m.role is not ChatRole.ASSISTANT else f"{m.content}</s>" for m in turns
        )


class MistralV3:
    """Mistral 7B v0.3. The system prompt stands in front of the last user message, if that comes last."""

    name = "mistral-v3"
    stop: tuple[str, ...] = ()
    stop_tokens = ("</s>",)
    _gap = " "

    def render(self, messages: Sequence[ChatMessage], tools: Tools = ()) -> str:
        """Tools stand before the last message of the user. The ids of calls have nine letters and digits."""
        has_system = messages[0].role is ChatRole.SYSTEM
        system, rest = _split_system(messages)
        asked = max((at for at, m in enumerate(rest) if m.role is ChatRole.USER), default=-1)
        text = "<s>"
        for at, m in enumerate(rest):
            if m.tool_calls or m.role is ChatRole.TOOL:
                text += self._calls(m) if m.tool_calls else self._result(m)
            elif m.role is ChatRole.ASSISTANT:
                text += self._answer(m.content) + "</s>"
            else:
                glued = f"{system}\n\n" if has_system and at == len(rest) - 1 else ""
                listed = self._tools(tools) if tools and at == asked else ""
                text += f"{listed}[INST]{self._gap}{glued}{m.content}[/INST]"
        return text

    def _tools(self, tools: Tools) -> str:
        return f"[AVAILABLE_TOOLS]{self._gap}[" + ", ".join(map(_mistral_tool, tools)) + "][/AVAILABLE_TOOLS]"

    def _calls(self, message: ChatMessage) -> str:
        calls = ", ".join(
            f'{{"name": "{call.name}", "arguments": {json.dumps(call.values, ensure_ascii=False)}, "id": "{call.id}"}}'
            for call in message.tool_calls
        )
        return f"[TOOL_CALLS]{self._gap}[{calls}]</s>"

    def _result(self, message: ChatMessage) -> str:
        content = f'{{"content": {message.content}, "call_id": "{message.tool_call_id}"}}'
        return f"[TOOL_RESULTS]{self._gap}{content}[/TOOL_RESULTS]"

    def _answer(self, content: str) -> str:
        return " " + content.strip()


class MistralTekken(MistralV3):
    """Mistral Nemo: as v0.3, without spaces."""

    name = "mistral-tekken"
    _gap = ""

    def _answer(self, content: str) -> str:
        return content


class Gemma:
    """Gemma 2 and 3: the assistant is called model, the system prompt goes into the first user turn."""

    name = "gemma"
    stop: tuple[str, ...] = ()
    stop_tokens = ("<end_of_turn>", "<eos>")

    def render(self, messages: Sequence[ChatMessage]) -> str:
        has_system = messages[0].role is ChatRole.SYSTEM
        system, rest = _split_system(messages)
        text = "<bos>"
        for at, m in enumerate(rest):
            role = "model" if m.role is ChatRole.ASSISTANT else m.role
            prefix = f"{system}\n\n" if has_system and at == 0 else ""
            text += f"<start_of_turn>{role}\n{prefix}{m.content.strip()}<end_of_turn>\n"
        return text + "<start_of_turn>model\n"


class DeepSeekR1:
    """The distilled DeepSeek-R1 models: the last system prompt stands before all turns; a thought is opened."""

    name = "deepseek-r1"
    stop: tuple[str, ...] = ()
    stop_tokens = ("<｜end▁of▁sentence｜>",)

    def render(self, messages: Sequence[ChatMessage]) -> str:
        system = next((m.content for m in reversed(messages) if m.role is ChatRole.SYSTEM), "")
        text = "<｜begin▁of▁sentence｜>" + system
        for m in messages:
            if m.role is ChatRole.USER:
                text += f"<｜User｜>{m.content}"
            elif m.role is ChatRole.ASSISTANT:
                text += f"<｜Assistant｜>{m.content.rsplit('</think>', 1)[-1]}<｜end▁of▁sentence｜>"
        return text + "<｜Assistant｜><think>\n"


class Generic:
    """Names and colons, as in a written dialogue: for models that have no format at all."""

    name = "generic"
    stop: tuple[str, ...] = ("\nUser:", "\nSystem:")
    stop_tokens: tuple[str, ...] = ()

    def render(self, messages: Sequence[ChatMessage]) -> str:
        return "".join(f"{m.role.capitalize()}: {m.content}\n" for m in messages) + "Assistant:"


def _split_system(messages: Sequence[ChatMessage]) -> tuple[str, list[ChatMessage]]:
    if messages and messages[0].role is ChatRole.SYSTEM:
        return messages[0].content, list(messages[1:])
    return "", list(messages)


def _mistral_tool(tool: Mapping[str, Any]) -> str:
    """The texts of a function are not escaped."""
    rows = (
        f'"{key}": "{value}"' if isinstance(value, str) else f'"{key}": {json.dumps(value, ensure_ascii=False)}'
        for key, value in tool["function"].items()
    )
    return '{"type": "function", "function": {' + ", ".join(rows) + "}}"


def _without_thought(message: ChatMessage) -> ChatMessage:
    """A thought that stands in the content, as in a chat from elsewhere, apart from it."""
    before, found, content = message.content.rpartition("</think>")
    if not found:
        return message
    thought = before.split("<think>")[-1].strip("\n") or message.reasoning
    return replace(message, content=content.lstrip("\n"), reasoning=thought)


_LLAMA_TOOLS = (
    "Given the following functions, please respond with a JSON for a function call "
    "with its proper arguments that best answers the given prompt.\n\n"
    'Respond in the format {"name": function name, "parameters": dictionary of argument name and its value}.'
    "Do not use variables.\n\n"
)
_QWEN_TOOLS = (
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>{}\n</tools>\n\n"
    "For each function call, return a json object with function name and arguments within <tool_call></tool_call> "
    'XML tags:\n<tool_call>\n{{"name": <function-name>, "arguments": <args-json-object>}}\n</tool_call>'
)
