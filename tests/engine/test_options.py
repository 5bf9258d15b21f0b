from __future__ import annotations

from typing import Any

import pytest

from lmsupply_cli.config.table import GENERATION_KEYS
from lmsupply_cli.engine.options import PRESETS, GenerationOptions
from lmsupply_cli.errors import UsageError

BAD = [
    ("max_tokens", 0), ("max_tokens", 1.5), ("max_tokens", 2**31), ("temperature", -0.1), ("temperature", float("nan")),
    ("temperature", "hot"), ("top_p", 1.1), ("top_p", -1), ("top_k", -1), ("min_p", 2), ("repetition_penalty", 0),
    ("min_length", -1), ("no_repeat_ngram_size", -1), ("do_sample", 1), ("num_beams", 0), ("seed", -1), ("seed", 2**63),
    ("stop", "END"), ("stop", ("",)), ("past_present_share_buffer", "yes"), ("top_k", True),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value"), BAD)
def test_each_bad_value_has_its_own_clear_error(key: str, value: Any) -> None:
    with pytest.raises(UsageError, match="--" + key.replace("_", "-")):
        GenerationOptions(**{key: value})


def test_defaults_and_frozen() -> None:
    options = GenerationOptions()
    assert (options.max_tokens, options.temperature, options.top_p, options.top_k) == (512, 0.7, 0.9, 50)
    assert (options.repetition_penalty, options.do_sample, options.num_beams, options.seed) == (1.1, True, 1, None)
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
    with pytest.raises(UsageError, match="min-length 9 is more than --max-tokens 4"):
        GenerationOptions(max_tokens=4, min_length=9)
