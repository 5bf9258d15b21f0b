"""What `lmsupply hw` shows, as a value and as lines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmsupply_cli import paths
from lmsupply_cli.hardware.host import Host, cpu_quota, detect_host
from lmsupply_cli.hardware.wheels import EngineWheels, detect_engine_wheels
from lmsupply_cli.runtime.recommend import Recommendation, recommend_model
from lmsupply_cli.units import format_bytes

INDENT = 13  # columns before the values


@dataclass(frozen=True, slots=True)
class Machine:
    host: Host
    quota: float | None
    wheels: EngineWheels
    recommendation: Recommendation
    settings_file: Path
    store: Path


def read_machine(store: Path) -> Machine:
    host = detect_host()
    recommendation = recommend_model(host.available_bytes)
    return Machine(host, cpu_quota(), detect_engine_wheels(), recommendation, paths.settings_file(), store)


def machine_lines(machine: Machine) -> list[str]:
    host, wheels, wanted = machine.host, machine.wheels, machine.recommendation
    quota = f", quota of {machine.quota:g} CPUs" if machine.quota else ""
    engines = ", ".join(f"{name} {version}" for name, version in wheels.installed) or "not installed"
    rows = [
        ("cpu", f"{host.cpu} ({host.machine}), {host.system}"),
        ("cores", f"{host.physical_cores} physical, {host.logical_cores} logical{quota}"),
        ("threads", f"{host.usable_threads} (the physical cores that may be used)"),
        ("memory", f"{format_bytes(host.memory_bytes)}, {format_bytes(host.available_bytes)} available"),
        ("engine", engines),
        ("providers", f"{', '.join(wheels.providers) or 'none'} (carried by the installed engine)"),
        *[("note", note) for note in wheels.notes],
        ("recommended", f"lmsupply pull {wanted.entry.ref}: {wanted.reason}"),
        ("settings", str(machine.settings_file) + ("" if machine.settings_file.exists() else " (no such file yet)")),
        ("models in", str(machine.store)),
    ]
    return [name.ljust(INDENT) + value for name, value in rows]


def machine_json(machine: Machine) -> dict[str, Any]:
    host, wheels, wanted = machine.host, machine.wheels, machine.recommendation
    provider = wheels.providers[0] if wheels.providers else None
    return {
        "cpu": {
            "name": host.cpu,
            "architecture": host.machine,
            "system": host.system,
            "physical_cores": host.physical_cores,
            "logical_cores": host.logical_cores,
            "quota": machine.quota,
            "threads": host.usable_threads,
        },
        "memory": {"total_bytes": host.memory_bytes, "available_bytes": host.available_bytes},
        "gpus": [],
        "engine": [{"distribution": name, "version": version} for name, version in wheels.installed],
        "providers": list(wheels.providers),
        "notes": list(wheels.notes),
        "recommendation": {"provider": provider, "precision": "int4", "reasons": [wanted.reason]},
        "models": [{"ref": wanted.entry.ref, "repo": wanted.entry.repo}],
        "paths": {"settings": str(machine.settings_file), "store": str(machine.store)},
    }
