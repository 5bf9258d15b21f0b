"""A scripted TextModel with true sequence semantics: for tests of what stands above the engine,
and for programs that want to try their use of lmsupply without weights.

Its vocabulary is the 256 bytes and a few control tokens, so every text encodes and splits
anywhere. What it says is a function of the tokens so far.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from lmsupply_cli.engine.base import Decoder, ModelShape, check_append, check_text
from lmsupply_cli.engine.detokenizer import Detokenizer, WindowDetokenizer
from lmsupply_cli.engine.guidance import Guidance
from lmsupply_cli.engine.matcher import GuidanceVocabulary, Matcher
from lmsupply_cli.errors import EngineError

if TYPE_CHECKING:
    from lmsupply_cli.engine.base import Logits

CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
EOS = 256 + CONTROL.index("<|im_end|>")
VOCABULARY = 300
Script = Callable[[Sequence[int]], int]


def count_up(tokens: Sequence[int]) -> int:
    """The next token is the last one plus one."""
    return (tokens[-1] + 1) % VOCABULARY


def replies(*texts: str | bytes) -> Script:
    """Answer the n-th `<|im_start|>assistant` with the n-th text, then end."""
    answers = [text.encode() if isinstance(text, str) else text for text in texts]
    head = [256 + CONTROL.index("<|im_start|>"), *b"assistant\n"]

    def script(tokens: Sequence[int]) -> int:
        ids = list(tokens)
        starts = [at for at in range(len(ids) - len(head) + 1) if ids[at : at + len(head)] == head]
        answer = answers[min(len(starts), len(answers)) - 1]
        said = len(ids) - starts[-1] - len(head) if starts else 0
        return answer[said] if said < len(answer) else EOS

    return script


class FakeModel:
    """Greedy decoding follows `script`; sampling almost always does."""

    def __init__(
        self, script: Script = count_up, *, context_length: int = 256, eos_ids: Iterable[int] = (EOS,)
    ) -> None:
        self.shape = ModelShape(None, "fake", context_length, VOCABULARY, frozenset(eos_ids), bos_id=256)
        self.hidden_ids = frozenset(range(256, 256 + len(CONTROL)))
        self.tokenizer_note = ""
        self.script = script
        self.closed = False

    def encode(self, text: str) -> list[int]:
        check_text(text)
        ids: list[int] = []
        while text:
            found = [(at, i) for i, control in enumerate(CONTROL) if (at := text.find(control)) >= 0]
            at, index = min(found, default=(len(text), -1))
            ids += text[:at].encode()
            if index < 0:
                break
            ids.append(256 + index)
            text = text[at + len(CONTROL[index]) :]
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(i for i in ids if i < 256).decode("utf-8", errors="replace")

    def new_detokenizer(self, *, continues: bool = False) -> Detokenizer:
        return WindowDetokenizer(self.decode, self.hidden_ids)

    def token_bytes(self, token: int) -> bytes | None:
        return bytes([token]) if token < 256 else None

    def token_text(self, token: int) -> str:
        if token in self.hidden_ids:
            return CONTROL[token - 256]
        return self.decode([token])

    def new_matcher(self, guidance: Guidance) -> Matcher:
        return Matcher(guidance, self._vocabulary)

    @cached_property
    def _vocabulary(self) -> GuidanceVocabulary:
        names = {256 + at: text for at, text in enumerate(CONTROL)}
        return GuidanceVocabulary(VOCABULARY, self, names)

    def new_decoder(self, *, capacity_tokens: int, share_buffer: bool | None = None) -> Decoder:
        if self.closed:
            raise EngineError("the model is closed", hint="load it again")
        return FakeDecoder(self, capacity_tokens)

    def new_batch(
        self, prompts: Sequence[Sequence[int]], *, capacity_tokens: int, share_buffer: bool | None = None
    ) -> FakeBatch:
        return FakeBatch(self, prompts)

    def batching_blocker(self) -> str | None:
        return None

    def drafting_blocker(self) -> str | None:
        return None

    def close(self) -> None:
        self.closed = True


class FakeDecoder:
    def __init__(self, model: FakeModel, capacity_tokens: int) -> None:
        self.capacity_tokens = capacity_tokens
        self.longrope_threshold = model.shape.longrope_threshold
        self._model = model
        self._tokens: list[int] | None = []
        self._fresh = False
        self._last = 0
        self.appended: list[int] = []  # length of each append, for tests

    @property
    def tokens(self) -> Sequence[int]:
        return list(self._open())

    def append(self, ids: Sequence[int]) -> None:
        tokens = self._open()
        check_append(ids, held_tokens=len(tokens), capacity_tokens=self.capacity_tokens, vocabulary=VOCABULARY)
        tokens.extend(ids)
        self.appended.append(len(ids))
        self._last = len(ids)
        self._fresh = True

    def logits(self) -> Logits:
        import numpy as np

        if not self._fresh:
            raise RuntimeError("logits are only there after an append")
        scores = np.zeros(VOCABULARY, dtype=np.float32)
        scores[self._model.script(self._open())] = 10.0
        return scores

    def wide_logits(self, count: int) -> Logits:
        import numpy as np

        tokens = self._open()
        if not self._fresh or count > self._last:
            raise RuntimeError("logits are only there after an append")
        rows = np.zeros((count, VOCABULARY), dtype=np.float32)
        for row in range(count):
            rows[row, self._model.script(tokens[: len(tokens) - count + row + 1])] = 10.0
        return rows

    def rewind(self, count: int) -> None:
        tokens = self._open()
        if not 0 <= count <= len(tokens):
            raise ValueError(f"cannot rewind {len(tokens)} tokens to {count}")
        del tokens[count:]
        self._fresh = False

    def close(self) -> None:
        self._tokens = None

    def _open(self) -> list[int]:
        if self._tokens is None:
            raise EngineError("the decoder is closed", hint="make a new one")
        return self._tokens


class FakeBatch:
    def __init__(self, model: FakeModel, prompts: Sequence[Sequence[int]]) -> None:
        self._script, self._rows = model.script, [list(ids) for ids in prompts]

    def logits(self) -> Logits:
        import numpy as np

        scores = np.zeros((len(self._rows), VOCABULARY), dtype=np.float32)
        for row, tokens in enumerate(self._rows):
            scores[row, self._script(tokens)] = 10.0
        return scores

    def choose(self, tokens: Sequence[int | None]) -> None:
        for row, token in zip(self._rows, tokens, strict=True):
            row.append(EOS if token is None else token)

    def close(self) -> None:
        self._rows = []
