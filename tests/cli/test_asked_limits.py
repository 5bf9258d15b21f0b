"""Limits that are asked for and cannot be meant, or cannot be had."""

from __future__ import annotations

import pytest
from support.cli import lmsupply


def test_more_threads_than_cpus_are_not_started() -> None:
    result = lmsupply("run", "-m", "guide", "--threads", "1000", "--stats", "thanks")
    assert result.code == 0
    assert "1000 threads were requested, but only" in result.err
    assert ", 1000 threads" not in result.err


@pytest.mark.parametrize(
    ("limit", "says"),
    [
        ("8", "did you mean 8GB?"),
        ("9" * 400, "more than any machine has"),
        ("1e999", "not a size"),
        ("nan", "not a size"),
        ("-5GB", "not a size"),
        ("0", "too little for any model"),
    ],
)
def test_a_memory_limit_that_cannot_be_meant(limit: str, says: str) -> None:
    for result in (
        lmsupply("run", "-m", "guide", f"--memory-limit={limit}", "thanks"),
        lmsupply("run", "-m", "guide", "thanks", LMSUPPLY_MEMORY_LIMIT=limit),
    ):
        assert result.code == 2
        assert says in result.err
        assert len(result.err) < 400
