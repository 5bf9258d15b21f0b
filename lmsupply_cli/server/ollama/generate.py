"""POST /api/generate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from lmsupply_cli.chat.messages import ChatMessage, ChatRole
from lmsupply_cli.events import ToolCall
from lmsupply_cli.generation.completion import AnswerBuffer, Completion
from lmsupply_cli.server.asking import body_of, worked_out
from lmsupply_cli.server.errors import bad_field
from lmsupply_cli.server.ollama.context import from_context, to_context
from lmsupply_cli.server.ollama.fields import NAMES, Answering
from lmsupply_cli.server.ollama.reply import Reply, load_or_unload, respond
from lmsupply_cli.server.state import ServerState
from lmsupply_cli.server.turns import as_turns
from lmsupply_cli.serving.requests import AnswerRequest, ServedModel

_NO_PICTURES = "models here write text only"


class GenerateBody(Answering):
    """Without a prompt, the model is loaded, or with `keep_alive` 0 unloaded. `raw`: the prompt as it stands, without the
    chat format; `suffix`: what stands behind the answer; `context`: of an earlier answer, which is continued."""

    prompt: str = ""
    suffix: str = ""
    system: str = ""
    context: list[int] = Field(default_factory=list)
    raw: bool = False
    unsupported = Answering.unsupported | {
        "template": "the model's own chat format is used; raw sends a prompt without one",
        "width": _NO_PICTURES,
        "height": _NO_PICTURES,
        "steps": _NO_PICTURES,
    }

    @property
    def names(self) -> Mapping[str, str]:
        return {**NAMES, "messages": "prompt"}

    @property
    def is_text(self) -> bool:
        """Whether the prompt is no message of a chat."""
        return self.raw or bool(self.suffix)

    def messages(self) -> list[ChatMessage]:
        """The conversation. A system prompt replaces an earlier one. Raises ApiError."""
        before = from_context(self.context)
        system = [ChatMessage.system(self.system)] if self.system else []
        kept = [m for m in before if not (system and m.role is ChatRole.SYSTEM)]
        return [*system, *kept, ChatMessage.user(self.prompt)]

    def request(self, model: ServedModel) -> AnswerRequest:
        """Raises ApiError that names the field."""
        thinking, options = self.thinking(model), self.generation()
        if self.is_text:
            return self._text_request(options)
        return AnswerRequest(
            messages=as_turns(self.messages()),
            options=options,
            guidance=self.guidance,
            enable_thinking=thinking.enable_thinking,
            reasoning_effort=thinking.reasoning_effort,
        )

    def _text_request(self, options: dict[str, Any]) -> AnswerRequest:
        form = "raw" if self.raw else "suffix"
        for name in ("system", "context", "think"):
            if getattr(self, name):
                raise bad_field(name, f"{name} can't be combined with {form}: it belongs to a chat")
        return AnswerRequest(text=self.prompt, suffix=self.suffix or None, options=options, guidance=self.guidance)


class GenerateReply(Reply):
    """The keys of generate."""

    def __init__(self, state: ServerState, body: GenerateBody) -> None:
        super().__init__(state, body.model)
        self._body = body

    def piece(self, text: str = "", thinking: str = "", calls: tuple[ToolCall, ...] = ()) -> dict[str, Any]:
        return {"response": text} | ({"thinking": thinking} if thinking else {})

    def more(self, answer: AnswerBuffer | Completion) -> dict[str, Any]:
        if self._body.is_text:
            return {}
        return {"context": to_context([*self._body.messages(), ChatMessage.assistant(answer.text)])}


async def generate(request: Request) -> Response:
    """The answer to one prompt, line by line unless `stream` is false."""
    body, state = await body_of(request, GenerateBody), ServerState.of(request)
    model, reply = state.find(body.name), GenerateReply(state, body)
    if not (body.prompt or body.suffix):
        return await load_or_unload(request, body, reply)
    asked = await worked_out(request, lambda: body.request(model))
    return await respond(request, body, asked, reply)


ROUTES = [Route("/api/generate", generate, methods=["POST"])]
