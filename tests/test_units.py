import math

import pytest

from lmsupply_cli.errors import UsageError
from lmsupply_cli.units import format_bytes, format_duration, format_rate, format_seconds, parse_bytes, parse_duration


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("4096", 4096),
        ("8GB", 8 * 10**9),
        ("8 gib", 8 * 2**30),
        ("1.5 MB", 1_500_000),
        ("2KiB", 2048),
        ("7B", 7),
        ("1TB", 10**12),
    ],
)
def test_sizes_are_read(text: str, count: int) -> None:
    assert parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "GB", "-1", "1 XB", "1,5GB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not a size"):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1500, "1.5 kB"),
        (2_782_186_064, "2.8 GB"),
        (540_000_000, "540 MB"),
        (25e12, "25.0 TB"),
    ],
)
def test_sizes_are_written(count: float, text: str) -> None:
    assert format_bytes(count) == text


def test_times_and_rates() -> None:
    assert [format_seconds(s) for s in (0.0123, 0.9996, 3.21, 75)] == ["12 ms", "1.0 s", "3.2 s", "1 min 15 s"]
    assert format_rate(10, 2) == "5.0 tokens/s"
    assert format_rate(10, 0) == "–"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0s"), (9.9, "9.9s"), (9.96, "10s"), (59.6, "1m00s"), (192, "3m12s"), (3725, "1h02m")],
)
def test_durations(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10m", 600),
        ("90", 90),
        ("90s", 90),
        ("0", 0),
        ("1.5s", 1.5),
        ("1h30m", 5400),
        ("2h", 7200),
        ("forever", math.inf),
    ],
)
def test_durations_that_are_written(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "10 minutes", "-1", "m", "1h-1m", "1e9"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(UsageError, match="not a duration"):
        parse_duration(text)
