from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lmsupply_cli.engine.folder import ModelFolder
from lmsupply_cli.engine.model_options import model_options

NEUTRAL = {"temperature": 1.0, "top_p": 1.0, "top_k": 50, "repetition_penalty": 1.0, "do_sample": False}


@pytest.mark.parametrize(
    ("search", "generation", "said"),
    [
        (NEUTRAL, None, {}),
        (NEUTRAL | {"top_k": 1}, None, {}),
        ({"do_sample": True, "temperature": 0.6, "top_k": 1, "top_p": 0.9}, None, {"temperature": 0.6, "top_p": 0.9}),
        (
            NEUTRAL | {"temperature": 0.1},
            None,
            {"temperature": 0.1, "top_p": 1.0, "top_k": 50, "repetition_penalty": 1.0},
        ),
        (NEUTRAL, {"temperature": 0.7, "top_p": 0.8, "top_k": 20}, {"temperature": 0.7, "top_p": 0.8, "top_k": 20}),
        ({"temperature": 0.1}, {"temperature": 0.7}, {"temperature": 0.7}),
        ({"temperature": -3, "top_p": 0.5}, None, {"top_p": 0.5}),
        ({}, {"eos_token_id": 2}, {}),
    ],
)
def test_what_a_model_asks_for(tmp_path: Path, search: dict[str, Any], generation: Any, said: dict[str, Any]) -> None:
    if generation is not None:
        (tmp_path / "generation_config.json").write_text(json.dumps(generation))
    assert model_options(ModelFolder(tmp_path, {"model": {}, "search": search})) == said


def test_the_guide_asks_for_what_it_answers_reliably_at(guide: Path) -> None:
    folder = ModelFolder(guide, json.loads((guide / "genai_config.json").read_text()))
    assert model_options(folder)["repetition_penalty"] == 1.0
    assert model_options(folder)["temperature"] <= 0.2
