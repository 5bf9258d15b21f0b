"""The text that a cache stands for, so that the next prompt uses the ids that were generated.

Text that is encoded again need not give the tokens that the model chose. Where the rendering of the history
agrees with what is in the cache, and a control string follows, the cached ids are taken as they are: no token
can reach over a control string, so the text after it may be encoded alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CachedPrompt:
    """`text`, escaped by `ControlTokenEscaper` with `sentinel`, is what `ids` stand for; `ends`: (characters, tokens) at the end
    of each answer, in ascending order."""

    text: str
    ids: tuple[int, ...]
    sentinel: str
    ends: tuple[tuple[int, int], ...] = ()

    def reusable_prefix(self, rendered: str, control_strings: Iterable[str]) -> tuple[tuple[int, ...], int] | None:
        """(ids to use again, characters of `rendered` that they stand for), up to the last end that agrees."""
        control = tuple(control_strings)
        for characters, tokens in reversed(self.ends):
            same = rendered.startswith(self.text[:characters])
            if same and (len(rendered) == characters or rendered.startswith(control, characters)):
                return self.ids[:tokens], characters
        return None

    def extended(self, escaped: str, ids: Sequence[int], answer: str, answer_ids: Sequence[int]) -> CachedPrompt:
        """With a prompt (`escaped`, of the tokens `ids`) and its answer as what is cached now."""
        kept = tuple(
            (characters, tokens)
            for characters, tokens in self.ends
            if escaped.startswith(self.text[:characters]) and tuple(ids[:tokens]) == self.ids[:tokens]
        )
        text, whole = escaped + answer, (*ids, *answer_ids)
        return CachedPrompt(text, whole, self.sentinel, (*kept, (len(text), len(whole))))
