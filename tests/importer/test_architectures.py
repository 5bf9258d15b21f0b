"""Imported graphs against transformers, whose logits of tiny random models are in `cases` (see support/import_cases)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.import_cases import Case, case_names, read_case
from support.import_source import MemorySource
from support.onnx_run import GraphRun

from lmsupply_cli.importer import architectures
from lmsupply_cli.importer.architectures import FAMILIES
from lmsupply_cli.importer.forms import Form, Wish

LAST = 5  # tokens that are decoded one by one


def build(source: MemorySource, folder: Path, precision: str = "fp32", block_size: int = 32) -> tuple[Form, ...]:
    return architectures.build(source, folder, Wish(precision, block_size), source.facts, lambda _: None)


def run(source: MemorySource, folder: Path, case: Case, precision: str = "fp32", block_size: int = 32) -> np.ndarray:
    build(source, folder, precision, block_size)
    return GraphRun(folder).feed(case.ids)


def off(logits: np.ndarray, case: Case) -> float:
    """The error's deviation as a part of the logits' own."""
    return float((logits - case.logits).std() / case.logits.std())


def test_every_family_has_a_case() -> None:
    assert {read_case(name).source.config["model_type"] for name in case_names()} == set(FAMILIES)


@pytest.mark.parametrize("name", case_names())
def test_fp32_has_the_logits_of_transformers(name: str, tmp_path: Path) -> None:
    case = read_case(name)
    assert np.abs(run(case.source, tmp_path, case) - case.logits).max() < 1e-4


@pytest.mark.parametrize("name", case_names())
def test_decoding_continues_a_prefill(name: str, tmp_path: Path) -> None:
    case = read_case(name)
    build(case.source, tmp_path)
    graph = GraphRun(tmp_path)
    parts = [graph.feed(case.ids[:-LAST]), *(graph.feed([token]) for token in case.ids[-LAST:])]
    assert np.abs(np.concatenate(parts) - case.logits).max() < 1e-4


# A code's rounding error is uniform: a third of half a step, 1/127 of the largest of a block in 8 bits and 1/7 of it in
# 4; over two layers of random weights, where nothing but the codes carries information, that adds up to these parts
@pytest.mark.parametrize("name", case_names())
@pytest.mark.parametrize(("precision", "most"), [("fp16", 0.005), ("int8", 0.05), ("int4", 0.35)])
def test_smaller_forms_are_near(name: str, precision: str, most: float, tmp_path: Path) -> None:
    case = read_case(name)
    assert off(run(case.source, tmp_path, case, precision), case) < most
