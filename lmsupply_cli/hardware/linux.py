"""What Linux tells of a CPU and of what sits on the PCI bus: pure parsers of /proc, /sys and lspci."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from lmsupply_cli.hardware.profile import PCI_VENDORS, Gpu, Vendor

# flag in /proc/cpuinfo → what people call it; only those that int4 and int8 kernels use
_FLAGS = {
    "avx2": "AVX2", "avx_vnni": "AVX-VNNI", "avx512f": "AVX-512", "avx512_vnni": "AVX-512 VNNI", "amx_int8": "AMX",
    "asimd": "NEON", "asimddp": "dot product", "i8mm": "i8mm", "sve": "SVE", "sme": "SME",
}  # fmt: skip


def parse_cpuinfo(text: str) -> tuple[str, tuple[str, ...]]:
    """(name, instruction sets) from /proc/cpuinfo; the name is "" if it says none (many ARM boards)."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, found, value = line.partition(":")
        if found:
            fields.setdefault(key.strip().lower(), value.strip())
    flags = set(fields.get("flags", fields.get("features", "")).split())
    name = fields.get("model name") or fields.get("hardware") or fields.get("model") or ""
    return (name if not name.isdigit() else ""), tuple(said for flag, said in _FLAGS.items() if flag in flags)


def whole_number(text: str) -> int | None:
    """None for what is none, or beyond any count of CPUs and bytes."""
    return int(text) if text.isdecimal() and len(text) < 30 else None


def parse_cpu_list(text: str) -> int:
    """How many CPUs a list like `0-3,8,10-11` names."""
    count = 0
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        low, high = whole_number(first), whole_number(last or first)
        if low is not None and high is not None and low <= high:
            count += high - low + 1
    return count


def parse_capacities(values: Mapping[int, int]) -> int | None:
    """Performance cores by cpu_capacity (ARM): those of the highest; None where all are alike."""
    if len(set(values.values())) < 2:
        return None
    return sum(capacity == max(values.values()) for capacity in values.values())


def physical_cores(root: Path = Path("/sys/devices/system/cpu")) -> int:
    """Each names the logical CPUs that it consists of; 0 where none does."""
    return len({path.read_text() for path in root.glob("cpu[0-9]*/topology/thread_siblings_list")})


def performance_cores(root: Path = Path("/sys/devices")) -> int | None:
    """Logical performance CPUs of a hybrid CPU: Intel lists them, ARM gives each a capacity."""
    try:
        return parse_cpu_list((root / "cpu_core" / "cpus").read_text()) or None
    except OSError:
        pass
    capacities = {}
    for path in (root / "system" / "cpu").glob("cpu[0-9]*/cpu_capacity"):
        try:
            capacities[int(path.parent.name[3:])] = int(path.read_text())
        except (OSError, ValueError):
            continue
    return parse_capacities(capacities)


def parse_lspci(text: str) -> tuple[list[Gpu], list[str]]:
    """(GPUs, NPUs) from `lspci -mm -nn`: class, vendor and device are quoted fields."""
    gpus, npus = [], []
    for line in text.splitlines():
        try:
            fields = shlex.split(line)
        except ValueError:
            continue
        if len(fields) < 4:
            continue
        kind, maker, device = fields[1], fields[2], fields[3]
        name = f"{_plain(maker)} {_plain(device)}"
        if re.search(r"\[03(00|02|80)\]", kind):
            gpus.append(Gpu(name, _vendor(maker)))
        elif "[1200]" in kind or re.search(r"\b(NPU|Neural|AI Boost|IPU)\b", device):
            npus.append(name)
    return gpus, npus


def _vendor(text: str) -> Vendor:
    match = re.search(r"\[([0-9a-f]{4})\]", text)
    return PCI_VENDORS.get(match.group(1), "other") if match else "other"


def _plain(text: str) -> str:
    """Without the trailing id, and a maker by its short name where lspci gives one."""
    text = re.sub(r"\s*\[[0-9a-f]{4}\]$", "", text)
    short = re.search(r"\[([^\]]+)\]$", text)
    return short.group(1) if short else re.sub(r",? (Corporation|Inc\.?|Co\.,? Ltd\.?)$", "", text)
