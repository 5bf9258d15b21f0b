"""Beam search by the rules of transformers: the reference here reads every beam anew, in its vectors of fixed size."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from lmsupply_cli.engine.base import PREFILL_CHUNK, TextModel
from lmsupply_cli.engine.beams import Beam, beam_search
from lmsupply_cli.engine.cancel import CancelToken
from lmsupply_cli.engine.ending import Ending
from lmsupply_cli.engine.fake import EOS, FakeModel
from lmsupply_cli.engine.folder import open_folder
from lmsupply_cli.engine.genai import GenaiModel
from lmsupply_cli.engine.prefill import LEAST

MODELS = Path(__file__).parent.parent / "models"
NEVER = -1e9
Floats = npt.NDArray[np.float64]


@pytest.fixture(scope="module", params=["llama-fp32", "llama", "qwen2", "phi3", "gemma2", "longrope-fp32"])
def model(request: pytest.FixtureRequest) -> Iterator[TextModel]:
    with GenaiModel(open_folder(MODELS / request.param)) as made:
        yield made


def log_probabilities(model: TextModel, tokens: Sequence[int]) -> Floats:
    decoder = model.new_decoder(capacity_tokens=len(tokens) + 1)
    decoder.append(tokens)
    logits = decoder.logits().astype(np.float64)
    decoder.close()
    shifted: Floats = logits - logits.max()
    return shifted - np.log(np.exp(shifted).sum())


def reference(
    model: TextModel, ids: Sequence[int], *, num_beams: int, max_tokens: int, eos_ids: Sequence[int], penalty: float
) -> list[tuple[list[int], float]]:
    """Answers with their end tokens, and scores."""
    running_scores = np.full(num_beams, NEVER)
    running_scores[0] = 0.0
    running: list[list[int]] = [[] for _ in range(num_beams)]
    beam_scores, beams, is_finished = np.full(num_beams, NEVER), list(running), np.zeros(num_beams, dtype=bool)
    unsatisfied = True
    for length in range(1, max_tokens + 1):
        known = {tuple(tokens): log_probabilities(model, [*ids, *tokens]) for tokens in running}
        table = np.stack([known[tuple(tokens)] for tokens in running]) + running_scores[:, None]
        keep = max(2, 1 + len(eos_ids)) * num_beams
        flat = np.argsort(-table.reshape(-1), kind="stable")[:keep]
        top, parents, tokens = table.reshape(-1)[flat], flat // table.shape[1], flat % table.shape[1]
        sequences = [[*running[parent], int(token)] for parent, token in zip(parents, tokens, strict=True)]
        hits = np.isin(tokens, eos_ids) | (length == max_tokens)
        going = np.argsort(-(top + hits * NEVER), kind="stable")[:num_beams]
        running, running_scores = [sequences[at] for at in going], (top + hits * NEVER)[going]
        just = hits & (np.arange(keep) < num_beams)
        finished_scores = top / length**penalty + ~just * NEVER + (not unsatisfied) * NEVER
        merged_scores = np.concatenate([beam_scores, finished_scores])
        merged_flags = np.concatenate([is_finished, just])
        best = np.argsort(-merged_scores, kind="stable")[:num_beams]
        everything = [*beams, *sequences]
        beams, beam_scores, is_finished = [everything[at] for at in best], merged_scores[best], merged_flags[best]
        worst = np.where(is_finished, beam_scores.min(), NEVER)
        unsatisfied = unsatisfied and bool((running_scores[0] / length**penalty > worst).any())
        if not unsatisfied or hits.all():
            break
    return [(b, float(s)) for b, s, done in zip(beams, beam_scores, is_finished, strict=True) if done]


def compare(model: TextModel, seed: int, num_beams: int, max_tokens: int, penalty: float) -> None:
    draw = random.Random(seed)
    ids = [draw.randrange(5, 250) for _ in range(draw.choice([1, 2, 5, 17, 40, PREFILL_CHUNK + 1]))]
    # random weights hardly ever end: let what they like to say end the answer
    likely = np.argsort(-log_probabilities(model, ids))
    eos = sorted({int(likely[draw.randrange(2, 30)]) for _ in range(draw.randint(1, 6))})
    expected = reference(model, ids, num_beams=num_beams, max_tokens=max_tokens, eos_ids=eos, penalty=penalty)
    decoder = model.new_decoder(capacity_tokens=len(ids) + max_tokens)
    found = beam_search(decoder, ids, num_beams=num_beams, ending=Ending(max_tokens, eos), length_penalty=penalty)
    decoder.close()
    without_end = [tuple(tokens[:-1] if tokens[-1] in eos else tokens) for tokens, _ in expected]
    assert [beam.tokens for beam in found] == without_end
    assert [beam.score for beam in found] == pytest.approx([score for _, score in expected], abs=1e-5)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("num_beams", "penalty"), [(4, 1.0), (2, 0.0), (3, 2.0), (1, 1.0)])
def test_the_beams_are_those_of_the_reference(model: TextModel, num_beams: int, penalty: float, seed: int) -> None:
    compare(model, seed, num_beams, 8, penalty)


def test_one_beam_without_an_end_is_greedy() -> None:
    with GenaiModel(open_folder(MODELS / "toy")) as model:
        decoder = model.new_decoder(capacity_tokens=30)
        (found,) = beam_search(decoder, [7, 8], num_beams=1, ending=Ending(5, ()))
        assert found.tokens == (9, 10, 11, 12, 13)
        assert beam_search(decoder, [7, 8], num_beams=3, ending=Ending(9, {12}))[0].tokens == (9, 10, 11)


@pytest.mark.parametrize("size", [1, 2, PREFILL_CHUNK, PREFILL_CHUNK + 1, 65 * PREFILL_CHUNK + 1])
def test_no_token_is_read_alone(size: int) -> None:
    model = FakeModel(context_length=5000)
    decoder = model.new_decoder(capacity_tokens=5000)
    ids = [at % 200 for at in range(size)]
    beam_search(decoder, ids, num_beams=3, ending=Ending(4, {EOS}))
    appended: list[int] = decoder.appended  # type: ignore[attr-defined]
    assert min(appended[1:] if size == 1 else appended) == (2 if size <= 2 else LEAST)
    assert max(appended) <= PREFILL_CHUNK


def test_processors_see_the_tokens_and_rule_out_others() -> None:
    model, seen = FakeModel(), list[list[int]]()

    def no_tens(tokens: Sequence[int], scores: Floats) -> Floats:
        seen.append(list(tokens))
        scores[10::10] = -np.inf
        return scores

    decoder = model.new_decoder(capacity_tokens=100)
    found = beam_search(decoder, [7, 8], num_beams=2, ending=Ending(4, {EOS}), processors=[no_tens])
    assert not any(token and token % 10 == 0 for beam in found for token in beam.tokens)
    assert found[0].tokens[0] == 9
    assert seen[0] == [7, 8]
    assert [7, 8, 9] in seen

    def nothing(tokens: Sequence[int], scores: Floats) -> Floats:
        return np.full_like(scores, -np.inf)

    assert beam_search(decoder, [7, 8], num_beams=2, ending=Ending(4, {EOS}), processors=[nothing]) == [Beam((), 0.0)]


def test_cancelled_it_gives_what_there_is() -> None:
    model, cancel = FakeModel(), CancelToken()

    def third(tokens: Sequence[int], scores: Floats) -> Floats:
        if len(tokens) == 4:
            cancel.cancel()
        return scores

    decoder = model.new_decoder(capacity_tokens=100)
    found = beam_search(decoder, [7, 8], num_beams=2, ending=Ending(40, {EOS}, cancel), processors=[third])
    assert found[0].tokens == (9, 10)
    assert beam_search(decoder, [7, 8], num_beams=2, ending=Ending(4, {EOS}, cancel)) == [Beam((), 0.0)]
