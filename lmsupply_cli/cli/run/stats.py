"""The lines of --stats."""

from __future__ import annotations

from lmsupply_cli.events import Finished
from lmsupply_cli.generation.completion import ModelInfo
from lmsupply_cli.hardware.host import memory_used_bytes
from lmsupply_cli.units import format_bytes, format_rate, format_seconds


def stats_lines(finished: Finished, info: ModelInfo) -> list[str]:
    usage, timings = finished.usage, finished.timings
    read = usage.prompt_tokens - usage.cached_tokens
    cached = f", {usage.cached_tokens} cached" if usage.cached_tokens else ""
    rows = [
        ("model", f"{info.ref} on {info.provider}, {info.threads} threads"),
        ("load", format_seconds(timings.load_s)),
        ("prefill", f"{read} tokens{cached}, {format_rate(read, timings.prefill_s)}"),
        ("first token", format_seconds(timings.ttft_s)),
        ("decode", f"{usage.completion_tokens} tokens, {format_rate(usage.completion_tokens, timings.decode_s)}"),
        *_speculation(finished),
        ("finish", finished.finish_reason),
        ("peak memory", format_bytes(memory_used_bytes()[1])),
    ]
    return [f"{name:<12} {value}" for name, value in rows]


def _speculation(finished: Finished) -> list[tuple[str, str]]:
    stats = finished.speculative
    if stats is None:
        return []
    return [
        (
            "drafted",
            f"{stats.accepted} of {stats.proposed} draft tokens accepted ({stats.rate:.0%}) in {stats.rounds} rounds",
        )
    ]
