"""The KV cache of one sequence across answers: a prompt that begins like the last one is read from where it differs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lmsupply_cli.chat.cached_prompt import CachedPrompt
from lmsupply_cli.chat.formatter import Prompt, answered
from lmsupply_cli.engine.base import Decoder, TextModel
from lmsupply_cli.engine.prefill import plan_reuse
from lmsupply_cli.errors import DoesNotFit


class PromptCache:
    """Holds a decoder, and makes a larger one when a prompt needs it. Close it, or `clear` it."""

    def __init__(
        self, model: TextModel, *, reserve_tokens: int = 0, check: Callable[[int], None] = lambda _: None
    ) -> None:
        """`reserve_tokens`: cache to allocate from the start, for chats; `check` raises DoesNotFit where a cache for so
        many tokens may not be made."""
        self._model, self._check, self._reserve = model, check, reserve_tokens
        self._decoder: Decoder | None = None
        self._share_buffer: bool | None = None
        self._cached: CachedPrompt | None = None
        self._answer: tuple[Prompt, tuple[int, ...]] | None = None  # the last one, which `_cached` lacks

    @property
    def tokens(self) -> Sequence[int]:
        """What is in the cache now."""
        return self._decoder.tokens if self._decoder is not None else ()

    @property
    def capacity_tokens(self) -> int:
        """What memory is allocated for; 0 before the first prompt."""
        return self._decoder.capacity_tokens if self._decoder is not None else 0

    @property
    def cached(self) -> CachedPrompt | None:
        """What the cache stands for, as the next prompt needs it."""
        if self._answer is not None:
            (prompt, ids), self._answer = self._answer, None
            self._cached = answered(prompt, self._pieces(prompt, ids), ids, self._cached)
        return self._cached

    def cached_prefix_tokens(self, ids: Sequence[int]) -> int:
        """How many of `ids`, from the first, need not be read again."""
        return plan_reuse(self.tokens, ids).rewind_to

    def decoder_for(self, tokens: int, *, most: int, share_buffer: bool | None = None) -> Decoder:
        """The decoder in use where it holds `tokens`; else a new one with room to grow, `most` tokens at most."""
        if self._decoder is not None and (
            self._decoder.capacity_tokens < tokens or self._share_buffer is not share_buffer
        ):
            if self._decoder.capacity_tokens < tokens:
                self._reserve = max(2 * self._decoder.capacity_tokens, tokens + tokens // 2)
            self._drop()
        if self._decoder is None:
            capacity = self._allowed(min(max(tokens, self._reserve), most), least=tokens)
            self._decoder = self._model.new_decoder(capacity_tokens=capacity, share_buffer=share_buffer)
            self._share_buffer = share_buffer
        return self._decoder

    def remember(self, prompt: Prompt, ids: Sequence[int]) -> None:
        """`prompt` was answered with `ids`: the next prompt takes them as they are where its text agrees."""
        if self._decoder is not None:
            self._cached, self._answer = self.cached, (prompt, tuple(ids))

    def clear(self) -> None:
        """Free the KV cache; the next prompt is read as a whole."""
        self._cached = self._answer = None
        self._drop()

    def _allowed(self, capacity: int, *, least: int) -> int:
        """With room to grow where the memory allows it. Raises DoesNotFit."""
        try:
            self._check(capacity)
        except DoesNotFit:
            if capacity <= least:
                raise
            self._check(least)
            return least
        return capacity

    def _pieces(self, prompt: Prompt, ids: Sequence[int]) -> list[tuple[str, bool]]:
        """The text of an answer as it was shown, in pieces; True for a control token that is shown."""
        pieces: list[tuple[str, bool]] = [("", False)]
        detokenizer = self._model.new_detokenizer(continues=prompt.continues)
        shown = prompt.tools.shown if prompt.tools else {}
        for token in ids:
            text = shown[token] if token in shown else detokenizer.push(token)
            if text in prompt.control and self._model.token_text(token) == text:
                pieces += [(text, True), ("", False)]
            else:
                pieces[-1] = (pieces[-1][0] + text, False)
        pieces[-1] = (pieces[-1][0] + detokenizer.flush(), False)
        return pieces

    def _drop(self) -> None:
        if self._decoder is not None:
            self._decoder.close()
            self._decoder = None
