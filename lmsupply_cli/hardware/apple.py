"""Apple Silicon: what `sysctl` tells. The GPU shares the machine's memory."""

from __future__ import annotations

from lmsupply_cli.hardware.linux import whole_number
from lmsupply_cli.hardware.probe import run_probe
from lmsupply_cli.hardware.profile import Gpu

KEYS = (
    "machdep.cpu.brand_string",
    "hw.memsize",
    "hw.perflevel0.physicalcpu",
    "hw.optional.arm.FEAT_I8MM",
    "hw.optional.arm.FEAT_DotProd",
)


def probe() -> dict[str, str]:
    return parse_sysctl(run_probe(["sysctl", *KEYS]) or "")


def parse_sysctl(text: str) -> dict[str, str]:
    """`key: value` lines; what this chip does not know is left out."""
    pairs = (line.partition(": ") for line in text.splitlines())
    return {key: value.strip() for key, found, value in pairs if found and key in KEYS}


def apple_gpu(values: dict[str, str]) -> list[Gpu]:
    name = values.get("machdep.cpu.brand_string", "")
    if not name.startswith("Apple"):
        return []
    return [Gpu(f"{name} GPU", "apple", whole_number(values.get("hw.memsize", "")), unified=True)]


def apple_instructions(values: dict[str, str]) -> tuple[str, ...]:
    found = ["NEON"] if values.get("machdep.cpu.brand_string", "").startswith("Apple") else []
    found += ["dot product"] if values.get("hw.optional.arm.FEAT_DotProd") == "1" else []
    return (*found, *(["i8mm"] if values.get("hw.optional.arm.FEAT_I8MM") == "1" else []))


def performance_cores(values: dict[str, str]) -> int | None:
    return whole_number(values.get("hw.perflevel0.physicalcpu", ""))
