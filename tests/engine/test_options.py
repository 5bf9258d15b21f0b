from __future__ import annotations

from typing import Any

import pytest

from lmsupply_cli.config.table import GENERATION_KEYS
from lmsupply_cli.engine.options import PRESETS, GenerationOptions, make_options
from lmsupply_cli.errors import UsageError

BAD = [
    ("max_tokens", 0), ("max_tokens", 1.5), ("max_tokens", 2**31), ("temperature", -0.1), ("temperature", float("nan")),
    ("temperature", "hot"), ("top_p", 1.1), ("top_p", -1), ("top_k", -1), ("min_p", 2), ("repetition_penalty", 0),
    ("min_length", -1), ("no_repeat_ngram_size", -1), ("do_sample", 1), ("num_beams", 0), ("seed", -1), ("seed", 2**63),
    ("stop", 5), ("stop", ""), ("stop", ("",)), ("past_present_share_buffer", "yes"), ("top_k", True),
    ("presence_penalty", 2.1), ("frequency_penalty", -2.1), ("logit_bias", {1: 101}), ("logit_bias", {-1: 1}),
    ("logit_bias", "5"), ("logprobs", 1), ("top_logprobs", 21),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value"), BAD)
def test_each_bad_value_has_its_own_clear_error(key: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f"`{key}` must be"):
        GenerationOptions(**{key: value})


def test_defaults_and_frozen() -> None:
    options = GenerationOptions()
    assert (options.max_tokens, options.temperature, options.top_p, options.top_k) == (512, 0.7, 0.9, 50)
    assert (options.penalty(), options.do_sample, options.num_beams, options.seed) == (1.1, True, 1, None)
    assert (options.presence_penalty, options.frequency_penalty, options.logit_bias) == (0.0, 0.0, ())
    with pytest.raises(AttributeError):
        options.seed = 1  # type: ignore[misc]
    assert set(options.as_dict()) == set(GENERATION_KEYS)


def test_presets() -> None:
    assert set(PRESETS) == {"creative", "precise", "greedy"}
    assert GenerationOptions.preset("greedy").greedy
    assert GenerationOptions.preset("creative").temperature > GenerationOptions.preset("precise").temperature
    with pytest.raises(UsageError, match="unknown preset"):
        GenerationOptions.preset("wild")


def test_replaced_checks_names_and_values() -> None:
    assert GenerationOptions().replaced(top_k=3).top_k == 3
    assert GenerationOptions().replaced(stop=["a"]).stop == ("a",)
    with pytest.raises(UsageError, match="unknown generation option 'tempreature'"):
        GenerationOptions().replaced(tempreature=1)
    with pytest.raises(UsageError, match="`min_length=9` is more than `max_tokens=4`"):
        GenerationOptions(max_tokens=4, min_length=9)


def test_without_a_repetition_penalty_it_follows_how_the_answer_is_made() -> None:
    sampled = GenerationOptions()
    assert sampled.repetition_penalty is None
    assert (sampled.penalty(), sampled.penalty(guided=True)) == (1.1, 1.0)
    assert GenerationOptions(temperature=0).penalty() == 1.0
    assert GenerationOptions(do_sample=False).penalty() == 1.0
    assert GenerationOptions(num_beams=2).penalty() == 1.0
    given = GenerationOptions(temperature=0, repetition_penalty=1.3)
    assert (given.penalty(), given.penalty(guided=True)) == (1.3, 1.3)
    assert given.as_dict(guided=True)["repetition_penalty"] == 1.3
    assert sampled.as_dict()["repetition_penalty"] == 1.1


def test_the_models_own_penalty_holds_only_where_nothing_else_decides() -> None:
    own = make_options({}, {"repetition_penalty": 1.25})
    assert (own.penalty(), own.penalty(guided=True), own.replaced(temperature=0).penalty()) == (1.25, 1.0, 1.0)
    assert own.replaced(repetition_penalty=1.5).penalty() == 1.5
    assert make_options({"repetition_penalty": 1.4}, {"repetition_penalty": 1.25}).penalty() == 1.4
    assert make_options({}, {}).penalty() == 1.1


def test_one_stop_may_be_a_string_and_a_bias_a_mapping() -> None:
    assert GenerationOptions(stop="END").stop == ("END",)
    assert GenerationOptions().replaced(stop="END").stop == ("END",)
    assert GenerationOptions(logit_bias={7: -1, 3: 2}).logit_bias == ((3, 2.0), (7, -1.0))


def test_top_logprobs_turn_logprobs_on() -> None:
    assert GenerationOptions(top_logprobs=2).logprobs
    assert GenerationOptions(top_logprobs=2, logprobs=False).logprobs
    assert not GenerationOptions().logprobs


@pytest.mark.parametrize(
    "options", [{"presence_penalty": 1.0}, {"frequency_penalty": 1.0}, {"logit_bias": {1: 1.0}}, {"logprobs": True}]
)
def test_beams_exclude_what_scores_single_tokens(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"cannot be combined with `{next(iter(options))}`"):
        GenerationOptions(num_beams=2, **options)
