"""POST /v1/completions: a continued text, without a chat format."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lmsupply_cli.events import Finished, TextDelta, TokenLogprob, Usage
from lmsupply_cli.generation.completion import Completion
from lmsupply_cli.server.asking import body_of, worked_out
from lmsupply_cli.server.errors import bad_field
from lmsupply_cli.server.openai.chat import error_frame
from lmsupply_cli.server.openai.completions_body import CompletionBody
from lmsupply_cli.server.openai.parts import fingerprint, finish_reason, new_id, usage_object
from lmsupply_cli.server.sampling import seeded
from lmsupply_cli.server.several import Answers
from lmsupply_cli.server.sse import CONTENT_TYPE, DONE, PING, sse
from lmsupply_cli.server.state import ServerState
from lmsupply_cli.server.streaming import streamed
from lmsupply_cli.serving.requests import AnswerRequest

_NAMES = {"messages": "prompt", "text": "prompt", "ids": "prompt", "top_logprobs": "logprobs"}
_DEFAULT_TOKENS = 16  # as in OpenAI's API: a text without a format has no end of its own


async def completions(request: Request) -> Response:
    """Whole, or as server-sent events."""
    body = await body_of(request, CompletionBody)
    state = ServerState.of(request)
    found = state.find(body.model)
    head = {
        "id": new_id("cmpl"),
        "object": "text_completion",
        "created": int(state.clock()),
        "model": found.ref,
        "system_fingerprint": fingerprint(found),
    }
    asked = await worked_out(request, lambda: completion_requests(body))
    answers = await Answers.begin(request, body.model, asked, names=_NAMES)
    echoes = [a.text or "" if body.echo else "" for a in asked]
    if not body.stream:
        done = await answers.whole()
        choices = [_choice(n, c, echoes[n], logprobs=body.logprobs is not None) for n, c in enumerate(done)]
        usage = usage_object((c.usage for c in done), prompts=len(asked) // body.n)
        return JSONResponse(head | {"choices": choices, "usage": usage})
    stream = CompletionStream(head, body, echoes)
    return streamed(
        stream.frames(answers),
        cancel=answers.cancel,
        failed=error_frame,
        media_type=CONTENT_TYPE,
        ping=PING if state.options.ping_s else b"",
        ping_s=state.options.ping_s,
    )


def completion_requests(body: CompletionBody) -> list[AnswerRequest]:
    """One for each choice: `n` for the first prompt, `n` for the second, and so on. Raises ApiError that names the field."""
    _check(body)
    limit = _DEFAULT_TOKENS if body.max_tokens is None else body.max_tokens
    logprobs = {} if body.logprobs is None else {"logprobs": True, "top_logprobs": body.logprobs}
    options = body.options({"max_tokens": limit, **logprobs}, names=_NAMES)
    return [
        AnswerRequest(
            text=prompt if isinstance(prompt, str) else None,
            suffix=body.suffix,
            ids=None if isinstance(prompt, str) else tuple(prompt),
            options=seeded(options, number),
        )
        for prompt in _prompts(body)
        for number in range(body.n)
    ]


def _prompts(body: CompletionBody) -> list[str] | list[list[int]]:
    prompt = body.prompt
    if isinstance(prompt, str):
        return [prompt]
    return prompt if isinstance(prompt[0], (str, list)) else [prompt]


def _check(body: CompletionBody) -> None:
    """What cannot be combined. Raises ApiError."""
    prompts = _prompts(body)
    as_tokens = not isinstance(prompts[0], str)
    for number, prompt in enumerate(prompts):
        if not prompt and body.suffix is None:
            param = "prompt" if isinstance(body.prompt, str) else f"prompt[{number}]"
            raise bad_field(param, f"{param} is empty")
    if len(prompts) * body.n > 128:
        raise bad_field("n", f"{len(prompts)} prompts with {body.n} choices each are more than 128 answers")
    if body.best_of is not None and body.best_of != body.n:
        raise _unsupported("best_of", "ask for n answers and choose by their logprobs")
    if body.echo and body.logprobs is not None:
        raise _unsupported("echo", "the prompt has no logprobs; leave out one of the two")
    if body.echo and (as_tokens or body.suffix is not None):
        raise _unsupported("echo", "only with a prompt that is text and has no suffix")
    if body.suffix is not None and as_tokens:
        raise _unsupported("suffix", "only with a prompt that is text")


def _unsupported(field: str, reason: str) -> Exception:
    return bad_field(field, f"{field} is not supported here: {reason}", code="unsupported_parameter")


def _choice(number: int, completion: Completion, echo: str, *, logprobs: bool) -> dict[str, Any]:
    return {
        "index": number,
        "text": echo + completion.text,
        "logprobs": logprobs_object(completion.logprobs) if logprobs else None,
        "finish_reason": finish_reason(completion.finish_reason),
    }


def logprobs_object(tokens: Iterable[TokenLogprob], *, offset: int = 0) -> dict[str, Any]:
    """Four lists of the same length. `offset`: characters of the answer before these tokens."""
    found = list(tokens)
    offsets = []
    for token in found:
        offsets.append(offset)
        offset += len(token.text)
    return {
        "tokens": [token.text for token in found],
        "token_logprobs": [token.logprob for token in found],
        "top_logprobs": [{top.text: top.logprob for top in token.top} for token in found],
        "text_offset": offsets,
    }


@dataclass
class _Choice:
    """One of the choices, as far as it was sent."""

    index: int
    logprobs: list[TokenLogprob] = field(default_factory=list)
    offset: int = 0

    def choice(self, text: str, reason: str | None = None) -> dict[str, Any]:
        """With the log probabilities of the tokens since the last one."""
        tokens, self.logprobs = self.logprobs, []
        logprobs = logprobs_object(tokens, offset=self.offset) if tokens else None
        self.offset += sum(len(token.text) for token in tokens)
        return {"index": self.index, "text": text, "logprobs": logprobs, "finish_reason": reason}


class CompletionStream:
    """The chunks of one response."""

    def __init__(self, head: dict[str, Any], body: CompletionBody, echoes: list[str]) -> None:
        self._wants_usage = bool(body.stream_options and body.stream_options.include_usage)
        self._head = head | ({"usage": None} if self._wants_usage else {})
        self._choices = [_Choice(number) for number in range(len(echoes))]
        self._echoes, self._prompts = echoes, len(echoes) // body.n
        self._usages: dict[int, Usage] = {}

    async def frames(self, answers: Answers) -> AsyncIterator[bytes]:
        """Until the end."""
        for choice, echo in zip(self._choices, self._echoes, strict=True):
            if echo:
                yield self._chunk(choice.choice(echo))
        async for number, event in answers.events():
            choice = self._choices[number]
            if isinstance(event, TokenLogprob):
                choice.logprobs.append(event)
            elif isinstance(event, TextDelta):
                yield self._chunk(choice.choice(event.text))
            elif isinstance(event, Finished):
                self._usages[number] = event.usage
                yield self._chunk(choice.choice("", finish_reason(event.finish_reason)))
        if self._wants_usage:
            usages = [self._usages[number] for number in sorted(self._usages)]
            yield sse(self._head | {"choices": [], "usage": usage_object(usages, prompts=self._prompts)})
        yield DONE

    def _chunk(self, choice: dict[str, Any]) -> bytes:
        return sse(self._head | {"choices": [choice]})


ROUTES = [Route("/v1/completions", completions, methods=["POST"])]
