"""The KV caches of a served model: one for each conversation, within a budget."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Sequence

from lmsupply_cli.chat.formatter import Prompt
from lmsupply_cli.engine.prefill import LEAST, plan_reuse
from lmsupply_cli.generation.batch_plan import NOTABLE_TOKENS
from lmsupply_cli.generation.generator import ROOM_TOKENS, TextGenerator
from lmsupply_cli.hardware.host import detect_memory, give_back_memory
from lmsupply_cli.serving.asked import Asked, PromptMaker
from lmsupply_cli.serving.places import PlaceState, choose_place

MOST_PLACES = 16
_LOST = 16  # conversations that lost their cache, which are known again when they return


class Place:
    """A generator with a cache of its own."""

    def __init__(self, generator: TextGenerator) -> None:
        self.generator = generator
        self.busy = False
        self.used = 0

    @property
    def capacity_tokens(self) -> int:
        """What memory is allocated for."""
        return self.generator.cache.capacity_tokens


class Caches:
    """Makes places, lends them, and evicts them. `budget_bytes`: of all, None for a quarter of the memory that is free
    now."""

    def __init__(self, generator: TextGenerator, prompts: PromptMaker, budget_bytes: int | None) -> None:
        self._base, self._prompts = generator, prompts
        self._budget = detect_memory().available_bytes // 4 if budget_bytes is None else budget_bytes
        self._places: list[Place] = []
        self._lost: deque[array[int]] = deque(maxlen=_LOST)
        self._version = 0  # it changes with what is idle

    def cached_tokens(self, asked: Asked) -> int:
        """How many tokens of its prompt the best of the idle places has."""
        if asked.cached is None or asked.cached[0] != self._version:
            idle = (place for place in self._places if not place.busy)
            found = max((self._shared(place, asked.prompt)[1] for place in idle), default=0)
            asked.cached = self._version, found
        return asked.cached[1]

    def lend(self, asked: Asked) -> Place:
        """The place where `asked` is read; give it back."""
        needed = self._base.needed_tokens(asked.prompt, asked.options)
        idle = [place for place in self._places if not place.busy]
        states = [self._state(place, asked) for place in idle]
        choice = choose_place(
            states,
            new_bytes=self._cache_bytes(needed),
            free_bytes=self._free_bytes,
            free_places=MOST_PLACES - len(self._places),
            returns=self._returns(asked.prompt.ids, max((state.shared for state in states), default=0)),
        )
        for number in choice.evict:
            self._drop(idle[number])
        if choice.evict:
            give_back_memory()
        if choice.take is None:
            place = self._new_place(needed)
        else:
            place = idle[choice.take]
            if states[choice.take].lost > NOTABLE_TOKENS:
                self._remember(place)
        self._version += 1
        place.busy, place.used = True, self._version
        return place

    @property
    def _free_bytes(self) -> int:
        return self._budget - sum(map(self._bytes, self._places))

    def _new_place(self, needed: int) -> Place:
        """With room for more turns, where the budget has it."""
        roomy = min(needed + ROOM_TOKENS, self._base.context_tokens)
        fits = self._cache_bytes(roomy) <= self._free_bytes
        place = Place(self._base.sibling(reserve_tokens=roomy if fits else needed))
        self._places.append(place)
        return place

    def give_back(self, place: Place) -> None:
        """Its answer has ended."""
        self._version += 1
        place.busy = False

    def discard(self, place: Place) -> None:
        """What it holds may be wrong."""
        self._drop(place, remember=False)

    def make_room(self, more_bytes: int) -> None:
        """Evict idle places, those used longest ago first, until so many bytes are within the budget."""
        idle = sorted((place for place in self._places if not place.busy), key=lambda place: place.used)
        while idle and more_bytes > self._free_bytes:
            self._drop(idle.pop(0))
        give_back_memory()

    def close(self) -> None:
        """Free all of them."""
        for place in list(self._places):
            self._drop(place, remember=False)

    def _state(self, place: Place, asked: Asked) -> PlaceState:
        prompt, shared = self._shared(place, asked.prompt)
        held, needed = place.generator.cached_tokens, place.generator.needed_tokens(prompt, asked.options)
        again = shared + LEAST >= len(prompt.ids)  # only an answer is lost, which is asked for anew
        return PlaceState(
            held=held,
            shared=shared,
            lost=0 if again else held - shared,
            fits=place.capacity_tokens >= needed,
            bytes=self._bytes(place),
            used=place.used,
        )

    def _shared(self, place: Place, prompt: Prompt) -> tuple[Prompt, int]:
        """The prompt as the place would read it, and how many tokens of it the place has."""
        prompt = self._prompts.with_cache(prompt, place.generator.cache.cached)
        return prompt, place.generator.cached_prefix_tokens(prompt.ids)

    def _returns(self, ids: Sequence[int], shared: int) -> bool:
        found = [tokens for tokens in self._lost if plan_reuse(tokens, ids).rewind_to > shared + NOTABLE_TOKENS]
        for tokens in found:
            self._lost.remove(tokens)
        return bool(found)

    def _drop(self, place: Place, *, remember: bool = True) -> None:
        if remember:
            self._remember(place)
        self._places.remove(place)
        self._version += 1
        place.generator.close()

    def _remember(self, place: Place) -> None:
        self._lost.append(array("i", place.generator.cache.tokens))

    def _bytes(self, place: Place) -> int:
        return self._cache_bytes(place.capacity_tokens)

    def _cache_bytes(self, tokens: int) -> int:
        shape = self._base.memory_shape
        return shape.cache_bytes(tokens) if shape and tokens else 0
