"""Imported graphs against transformers, whose logits of tiny random models are in `cases` (see support/import_cases)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.engine_run import EngineRun
from support.import_cases import Case, case_names, read_case
from support.import_source import MemorySource, coded_tensor, random_coded

from lmsupply_cli.importer import architectures
from lmsupply_cli.importer.architectures import FAMILIES
from lmsupply_cli.importer.forms import Form, Wish
from lmsupply_cli.importer.weights import Coding

LAST = 5  # tokens that are decoded one by one


def build(source: MemorySource, folder: Path, precision: str = "fp32", block_size: int = 32) -> tuple[Form, ...]:
    return architectures.build(source, folder, Wish(precision, block_size), source.facts, lambda _: None)


def run(source: MemorySource, folder: Path, case: Case, precision: str = "fp32", block_size: int = 32) -> np.ndarray:
    build(source, folder, precision, block_size)
    return EngineRun(folder).feed(case.ids)


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
    graph = EngineRun(tmp_path)
    parts = [graph.feed(case.ids[:-LAST]), *(graph.feed([token]) for token in case.ids[-LAST:])]
    assert np.abs(np.concatenate(parts) - case.logits).max() < 1e-4


# A code's rounding error is uniform: a third of half a step, 1/127 of the largest of a block in 8 bits and 1/7 of it in
# 4; over two layers of random weights, where nothing but the codes carries information, that adds up to these parts
# (a router in whose input there are errors chooses other experts where two are near: test_families judges those alone)
@pytest.mark.parametrize("name", [name for name in case_names() if "num_local_experts" not in read_case(name).config])
@pytest.mark.parametrize(("precision", "most"), [("fp16", 0.005), ("int8", 0.05), ("int4", 0.35)])
def test_smaller_forms_are_near(name: str, precision: str, most: float, tmp_path: Path) -> None:
    case = read_case(name)
    assert off(run(case.source, tmp_path, case, precision), case) < most


CODINGS = [
    Coding(bits, block, zero_points, corrections)
    for bits in (2, 4, 8)
    for block in (16, 32)
    for zero_points, corrections in ((False, False), (True, False), (False, True))
]


def coded(case: Case, coding: Coding, *, keep: tuple[str, ...] = ()) -> MemorySource:
    """The case with random codes instead of its weights, but for those whose name ends in one of `keep`."""
    rng, source = np.random.default_rng(0), case.source
    tensors = {
        name: coded_tensor(name, random_coded(rng, tensor.shape, coding, 0.6), coding)
        if len(tensor.shape) == 2 and not name.endswith(keep)
        else tensor
        for name, tensor in source.tensors.items()
    }
    return MemorySource(source.config, tensors)


@pytest.mark.parametrize("coding", CODINGS, ids=str)
@pytest.mark.parametrize("name", ["llama", "qwen2"])  # a head of its own; a tied one, and biases
def test_codes_are_carried_over_exactly(name: str, coding: Coding, tmp_path: Path) -> None:
    case = read_case(name)
    source = coded(case, coding)
    for precision in ("fp32", "exact"):
        (tmp_path / precision).mkdir()
        build(source, tmp_path / precision, precision)
    floats, codes = (EngineRun(tmp_path / each, in_floats=True).feed(case.ids) for each in ("fp32", "exact"))
    assert np.abs(codes - floats).max() < 1e-4 * np.abs(floats).max()
    rounded = EngineRun(tmp_path / "exact").feed(case.ids)  # activations in 8 bits
    assert (rounded - floats).std() < 0.05 * floats.std()
