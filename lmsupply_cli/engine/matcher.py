"""Follow a guidance token by token, by llguidance: which tokens may come next, as a mask over the logits. Its only
importer."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

from lmsupply_cli.encoding import encode_inside
from lmsupply_cli.engine.guidance import Guidance, names_control_tokens
from lmsupply_cli.errors import EngineError, UsageError
from lmsupply_cli.hardware.host import give_back_memory
from lmsupply_cli.units import cut

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Allowed = npt.NDArray[np.bool_]

_FORCED_STEPS = 8  # looked at before a model is loaded
_REGEX_ERROR = re.compile(r"regex parse error: .*error: (.*?)(?: \d+ \| .*)?$")


class Tokens(Protocol):
    """The tokens of a model as a guidance needs them."""

    def encode(self, text: str) -> list[int]:
        """Text to ids."""

    def token_bytes(self, token: int) -> bytes | None:
        """What a token stands for; None for a control token and for an id without one."""


class GuidanceVocabulary:
    """The tokens of a model as llguidance sees them: made once, a second or less for 128,000 of them."""

    def __init__(self, size: int, tokens: Tokens, names: Mapping[int, str]) -> None:
        """`size`: of the logits; `names`: of control tokens, which only a Lark grammar can ask for. What has no bytes is
        never allowed."""
        from llguidance import LLTokenizer

        self.size = size
        given: Any = _Given(size, tokens, names)
        self.encode = given.__call__
        self.compiled = LLTokenizer(given, n_vocab=size + 1, eos_token=[size])
        given.tokens = []  # it has its own copy
        give_back_memory()


class _Given:
    """What LLTokenizer asks of a tokenizer. The end of an answer is a token of its own beyond the vocabulary: a model
    may have several, and all are allowed where it is."""

    is_tokenizer_wrapper = True
    bos_token_id: int | None = None

    def __init__(self, size: int, tokens: Tokens, names: Mapping[int, str]) -> None:
        self._encode, self._names = tokens.encode, names
        self.eos_token_id = size
        self.tokens = [tokens.token_bytes(token) or b"" for token in range(size)]
        for token, name in names.items():
            if token < size:
                self.tokens[token] = b"\xff" + name.encode()
        self.tokens.append(b"\xff<end of the answer>")
        self.special_token_ids = sorted({token for token in names if token < size} | {size})

    def __call__(self, text: str | bytes) -> list[int]:
        """Where the guidance leaves one text, its usual tokens are taken; none of them steers the model."""
        text = text.decode(errors="replace") if isinstance(text, bytes) else text
        ids = encode_inside(text, self._encode)
        if any(token in self._names for token in ids):
            ids = [token for char in text for token in encode_inside(char, self._encode)]
        return ids


class _Bytes:
    """A vocabulary of the 256 bytes."""

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def token_bytes(self, token: int) -> bytes | None:
        return bytes([token])


class Matcher:
    """One answer that follows a guidance, token by token."""

    def __init__(self, guidance: Guidance, vocabulary: GuidanceVocabulary) -> None:
        """Raises UsageError for a guidance that llguidance does not take."""
        import numpy as np
        from llguidance import LLMatcher

        self._np = np
        self._guidance, self._vocabulary = guidance, vocabulary
        self._matcher = LLMatcher(vocabulary.compiled, compiled(guidance), log_level=0)
        self._before = ""
        self._mask = np.zeros((1, (vocabulary.size + 1 + 31) // 32), dtype=np.int32)
        if error := self._matcher.get_error():
            raise UsageError(f"the {guidance.name} cannot be followed: {_in_one_line(error)}")

    def allowed(self, ends: Collection[int] = ()) -> Allowed:
        """Which tokens may come next; `ends` are those that end the answer, allowed where it is complete. Raises
        EngineError where none may."""
        np, mask = self._np, self._mask
        self._matcher.unsafe_compute_mask_ptr(mask.ctypes.data, mask.nbytes)
        size = self._vocabulary.size
        bits: Allowed = np.unpackbits(mask.view(np.uint8)[0], count=size + 1, bitorder="little").view(np.bool_)
        allowed = bits[:size]
        allowed[list(ends)] = bits[size]
        error = _in_one_line(self._matcher.get_error())
        if error or not (allowed.any() or bits[size]):
            why = error or "none of this model's tokens can come next"
            raise EngineError(f"the answer cannot continue to match the {self._guidance.name}: {why}")
        return allowed

    def resume(self, before: str) -> None:
        """Continue an answer that begins with `before`. Raises UsageError if no valid answer begins so."""
        self._before = before
        if before and not self._matcher.consume_tokens(self._vocabulary.encode(before)):
            raise UsageError(
                f"the answer so far does not match the {self._guidance.name}, so it cannot be continued",
                hint="generate it again",
            )

    def check(self) -> None:
        """Raises EngineError if no answer can begin, or a forced beginning has no end."""
        for _ in range(_FORCED_STEPS):
            (tokens,) = self.allowed().nonzero()
            if len(tokens) != 1 or self.complete:
                return
            self.accept(int(tokens[0]))

    def accept(self, token: int) -> None:
        """`token`, which was allowed and is no end, comes next."""
        self._matcher.consume_token(token)

    @property
    def complete(self) -> bool:
        """Whether the answer may end here."""
        return bool(self._matcher.is_accepting())

    def accepts(self, text: str) -> bool:
        """Whether `text`, after what was resumed, would be a complete answer."""
        text = self._before + text
        whole = Matcher(self._guidance, _byte_vocabulary())._matcher
        return whole.consume_tokens(list(text.encode())) and whole.is_accepting() if text else whole.is_accepting()


@lru_cache(maxsize=1)
def _byte_vocabulary() -> GuidanceVocabulary:
    return GuidanceVocabulary(256, _Bytes(), {})


def check_guidance(guidance: Guidance) -> None:
    """Raises UsageError for what llguidance does not take, and for what no answer can follow. Whether a model has the
    control tokens that a grammar names is found out with the model."""
    if names_control_tokens(guidance):
        return
    try:
        Matcher(guidance, _byte_vocabulary()).check()
    except EngineError as error:
        hint = "" if guidance.kind == "regex" else "look for a rule that leads back to itself without an end"
        raise UsageError(f"no answer can satisfy the {guidance.name}", hint=hint) from error


def matches(guidance: Guidance, text: str) -> bool:
    """Whether `text` is a complete answer under a guidance that names no control tokens."""
    return Matcher(guidance, _byte_vocabulary()).accepts(text)


def compiled(guidance: Guidance) -> str:
    """The grammar that llguidance reads."""
    from llguidance import LLMatcher

    if guidance.kind == "json_schema":
        return LLMatcher.grammar_from_json_schema(guidance.text)
    return LLMatcher.grammar_from_regex(guidance.text) if guidance.kind == "regex" else guidance.text


def _in_one_line(text: str) -> str:
    """What llguidance says, without the state of its parser."""
    line = " ".join(text.partition("<state>")[0].split())
    if line.startswith("NoExtension"):
        return "nothing can follow"
    if "lookarounds not supported" in line:
        return "anchors such as ^, $ and \\b are not supported within it"
    if found := _REGEX_ERROR.search(line):
        return found[1]
    return cut(line, 400)
