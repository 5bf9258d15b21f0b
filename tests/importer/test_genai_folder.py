"""genai_config.json and generation_config.json of an import."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.import_cases import read_case

from lmsupply_cli.genai_config import CONFIG, GENERATION_CONFIG, file_problem
from lmsupply_cli.importer import architectures
from lmsupply_cli.importer.forms import Wish
from lmsupply_cli.importer.source import TokenizerFacts


def build(folder: Path, name: str = "llama", **changes: Any) -> dict[str, Any]:
    """The genai_config.json of a case, of which `facts`, `generation` or keys of the config are others."""
    source = read_case(name).source
    facts, generation = changes.pop("facts", source.facts), changes.pop("generation", {})
    source = replace(source, config={**source.config, **changes}, generation=generation)
    architectures.build(source, folder, Wish("int4"), facts, lambda _: None)
    config: dict[str, Any] = json.loads((folder / CONFIG).read_text())
    assert file_problem(CONFIG, config) == ""
    return config


def test_the_shape_of_the_model(tmp_path: Path) -> None:
    model = build(tmp_path, "llama_wide_heads")["model"]
    assert (model["type"], model["vocab_size"], model["context_length"]) == ("llama", 96, 128)
    decoder = model["decoder"]
    names = ("head_size", "hidden_size", "num_attention_heads", "num_hidden_layers", "num_key_value_heads")
    assert [decoder[name] for name in names] == [48, 96, 3, 2, 1]
    assert "sliding_window" not in decoder


def test_layers_with_a_window_are_listed(tmp_path: Path) -> None:
    window = build(tmp_path, "qwen2_window")["model"]["decoder"]["sliding_window"]
    assert (window["window_size"], window["layers"]) == (7, [1])


def test_a_window_as_long_as_the_context_is_none(tmp_path: Path) -> None:
    config = build(tmp_path, "mistral", sliding_window=128)
    assert "sliding_window" not in config["model"]["decoder"]


def test_a_context_that_no_machine_holds_is_cut(tmp_path: Path) -> None:
    source = read_case("llama").source
    source = replace(source, config={**source.config, "max_position_embeddings": 10_485_760})
    plan = architectures.estimate(source, Wish("int4"))
    assert plan.notes == ("the context is 262,144 of the model's 10,485,760 tokens",)
    assert plan.size_bytes < 30_000_000
    config = build(tmp_path, max_position_embeddings=10_485_760)
    assert (config["model"]["context_length"], config["search"]["max_length"]) == (262_144, 262_144)


@pytest.mark.parametrize(
    ("facts", "bos", "eos", "pad"),
    [
        (TokenizerFacts(1, (2,), 3), 1, 2, 3),
        (TokenizerFacts(1, (2, 5), None), 1, [2, 5], 2),
        (TokenizerFacts(None, (7,), None), 7, 7, 7),
    ],
)
def test_tokens(facts: TokenizerFacts, bos: int, eos: object, pad: int, tmp_path: Path) -> None:
    model = build(tmp_path, facts=facts)["model"]
    assert (model["bos_token_id"], model["eos_token_id"], model["pad_token_id"]) == (bos, eos, pad)


def test_what_the_source_says_about_sampling(tmp_path: Path) -> None:
    stated = {
        "temperature": 0.6,
        "top_k": 20,
        "do_sample": True,
        "min_p": 0.05,
        "transformers_version": "5.0",
        "top_p": None,
    }
    search = build(tmp_path, generation=stated)["search"]
    assert (search["temperature"], search["top_k"], search["do_sample"], search["top_p"]) == (0.6, 20, True, 1.0)
    kept = json.loads((tmp_path / GENERATION_CONFIG).read_text())
    assert kept == {"temperature": 0.6, "top_k": 20, "do_sample": True, "min_p": 0.05}
    assert file_problem(GENERATION_CONFIG, kept) == ""


@pytest.mark.parametrize("stated", [{}, {"temperature": "hot", "top_k": 2**40, "do_sample": 1}])
def test_what_the_engine_would_not_read_is_left_out(stated: dict[str, Any], tmp_path: Path) -> None:
    assert build(tmp_path, generation=stated)["search"]["temperature"] == 1.0
    assert not (tmp_path / GENERATION_CONFIG).exists()
