"""What `lmsupply hw` shows, as a value and as lines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lmsupply_cli import paths
from lmsupply_cli.catalogue.entry import CatalogueEntry
from lmsupply_cli.catalogue.lookup import read_catalogue
from lmsupply_cli.cli.places import shown_place
from lmsupply_cli.errors import LicenseNotAccepted
from lmsupply_cli.files import free_bytes, is_file
from lmsupply_cli.hardware.choice import Choice, ProviderState
from lmsupply_cli.hardware.profile import Gpu, HardwareProfile
from lmsupply_cli.hardware.wheels import EngineWheels
from lmsupply_cli.hub.resolve import VariantWish
from lmsupply_cli.loading.recommend import (
    Allowed,
    Recommendation,
    any_license,
    expected_variant,
    machine_choice,
    recommend_model,
)
from lmsupply_cli.memory.rough import largest_context, needed_bytes, roughly_fits
from lmsupply_cli.render.fields import Row
from lmsupply_cli.render.table import Column, print_table
from lmsupply_cli.render.terminal import Terminal
from lmsupply_cli.units import count, format_bytes

_NO_FILE = " (no such file yet)"


class ModelFit(NamedTuple):
    """What a catalogue model needs here: the variant, whether it fits, the largest context."""

    entry: CatalogueEntry
    variant: str
    size_bytes: int | None
    fits: bool | None
    context_tokens: int | None
    memory_bytes: int | None = None


class Machine(NamedTuple):
    """`recommendation` is None if the settings allow the license of no model with role:default."""

    profile: HardwareProfile
    wheels: EngineWheels
    providers: tuple[ProviderState, ...]
    choice: Choice
    recommendation: Recommendation | None
    models: tuple[ModelFit, ...]
    settings_file: Path
    store: Path
    free_disk_bytes: int
    notes: tuple[str, ...] = ()

    @property
    def all_notes(self) -> list[str]:
        """What the probes could not find out, what is wrong with the engine's packages, and `notes`."""
        return [*self.profile.notes, *self.wheels.notes, *self.notes]


def read_machine(store: Path, notes: Sequence[str] = (), *, allowed: Allowed = any_license) -> Machine:
    """`allowed`: whether a model may be used under its license; others are left out."""
    found = machine_choice()
    profile, choice = found.profile, found.choice
    free = profile.memory.available_bytes
    if choice.device and not choice.device.unified:
        free = choice.device.free_bytes or choice.device.total_bytes or free
    return Machine(
        profile=profile,
        wheels=found.wheels,
        providers=found.states,
        choice=choice,
        recommendation=_recommended(free, allowed),
        models=tuple(_fit(e, choice, free) for e in read_catalogue() if e.repo and allowed(e.license)),
        settings_file=paths.settings_file(),
        store=store,
        free_disk_bytes=free_bytes(store),
        notes=tuple(notes),
    )


def _recommended(free: int, allowed: Allowed) -> Recommendation | None:
    try:
        return recommend_model(free, allowed=allowed)
    except LicenseNotAccepted:
        return None


def _fit(entry: CatalogueEntry, choice: Choice, free: int) -> ModelFit:
    expected = expected_variant(entry, VariantWish(choice.provider, choice.precision))
    size = (expected.chosen.size_bytes or None) if expected else None
    variant = expected.chosen.name if expected else "none"
    memory = needed_bytes(entry, size) if size else None
    return ModelFit(entry, variant, size, roughly_fits(entry, size, free), largest_context(entry, size, free), memory)


def machine_rows(machine: Machine) -> list[Row]:
    """Rows of name and value: what a person reads on one screen."""
    profile = machine.profile
    engines = ", ".join(f"{name} {version}" for name, version in machine.wheels.installed) or "not installed"
    choice = machine.choice
    reasons = [
        reason.removeprefix(f"{choice.precision}: ")
        for reason in choice.reasons
        if not reason.startswith(f"{choice.provider}: ")
    ]
    return [
        (
            "Hardware",
            " · ".join([_cpu(machine), _memory(machine), f"{format_bytes(machine.free_disk_bytes)} disk free"]),
        ),
        *[("GPU", _gpu(gpu)) for gpu in profile.gpus],
        *[("NPU", f"{name} (the installed engine does not use it)") for name in profile.npus],
        ("Engine", engines),
        *[("Providers", _provider(state)) for state in sorted(machine.providers, key=lambda state: not state.usable)],
        (
            "Use",
            f"{machine.choice.provider}, {machine.choice.precision}" + (f" ({'; '.join(reasons)})" if reasons else ""),
        ),
        ("Recommended", _recommendation(machine)),
        *[("Note", note) for note in machine.all_notes],
        ("Settings", shown_place(machine.settings_file) + ("" if is_file(machine.settings_file) else _NO_FILE)),
        ("Models in", shown_place(machine.store)),
    ]


def _recommendation(machine: Machine) -> str:
    if machine.recommendation is None:
        return "none: no model with role:default has a license that is allowed"
    wanted = machine.recommendation.entry
    fit = next((fit for fit in machine.models if fit.entry == wanted), None)
    sizes = ""
    if fit and fit.size_bytes:
        sizes = f" ({format_bytes(fit.size_bytes)} download, {format_bytes(fit.memory_bytes or 0)} in memory)"
    return f"{wanted.ref}{sizes}: lmsupply pull {wanted.ref}"


def print_model_fits(terminal: Terminal, machine: Machine) -> None:
    """What each model of the catalogue comes to here, those that fit first."""
    order = {True: 0, None: 1, False: 2}
    fits = sorted(machine.models, key=lambda fit: order[fit.fits])
    columns = [
        Column("MODEL", [fit.entry.ref for fit in fits]),
        Column("DOWNLOAD", [_bytes(fit.size_bytes) for fit in fits], right=True, rank=1),
        Column("MEMORY", [_bytes(fit.memory_bytes) for fit in fits], right=True),
        Column("FITS", [{None: "?", True: "yes", False: "no"}[fit.fits] for fit in fits]),
        Column("MAX CONTEXT", [_context(fit) for fit in fits], right=True, rank=2),
    ]
    terminal.styled("")
    print_table(terminal, columns, dim=[at for at, fit in enumerate(fits) if fit.fits is False])


def machine_json(machine: Machine) -> dict[str, Any]:
    profile, cpu, memory = machine.profile, machine.profile.cpu, machine.profile.memory
    return {
        "cpu": {
            "name": cpu.name,
            "architecture": cpu.architecture,
            "system": profile.system,
            "physical_cores": cpu.physical_cores,
            "logical_cores": cpu.logical_cores,
            "performance_cores": cpu.performance_cores,
            "instructions": list(cpu.instructions),
            "quota": cpu.quota,
            "threads": cpu.usable_threads,
        },
        "memory": {
            "total_bytes": memory.total_bytes,
            "available_bytes": memory.available_bytes,
            "swap_bytes": memory.swap_bytes,
            "limit_bytes": memory.limit_bytes,
        },
        "free_disk_bytes": machine.free_disk_bytes,
        "gpus": [_gpu_json(gpu) for gpu in profile.gpus],
        "npus": list(profile.npus),
        "engine": [{"distribution": name, "version": version} for name, version in machine.wheels.installed],
        "providers": [
            {"name": s.name, "usable": s.usable, "reason": s.reason, "fix": s.fix or None} for s in machine.providers
        ],
        "notes": machine.all_notes,
        "recommendation": {
            "provider": machine.choice.provider,
            "precision": machine.choice.precision,
            "reasons": list(machine.choice.reasons),
            "model": machine.recommendation.entry.ref if machine.recommendation else None,
            "model_reason": machine.recommendation.reason if machine.recommendation else None,
        },
        "models": [
            {
                "ref": fit.entry.ref,
                "variant": fit.variant,
                "size_bytes": fit.size_bytes,
                "fits": fit.fits,
                "context_tokens": fit.context_tokens,
            }
            for fit in machine.models
        ],
        "paths": {"settings": str(machine.settings_file), "store": str(machine.store)},
    }


def _cpu(machine: Machine) -> str:
    cpu = machine.profile.cpu
    performance = f" ({cpu.performance_cores} performance)" if cpu.performance_cores else ""
    quota = f", quota of {cpu.quota:g} CPUs" if cpu.quota else ""
    threads = f", {count(cpu.usable_threads, 'thread')}" if cpu.usable_threads != cpu.physical_cores else ""
    instructions = f", {', '.join(cpu.instructions)}" if cpu.instructions else ""
    return f"{cpu.name}, {count(cpu.physical_cores, 'core')}{performance}{threads}{quota}{instructions}"


def _memory(machine: Machine) -> str:
    memory = machine.profile.memory
    if not memory.total_bytes:
        return "memory unknown"
    limit = f", limited by {memory.limited_by or 'the container'}" if memory.limit_bytes else ""
    return f"{format_bytes(memory.total_bytes)} memory ({format_bytes(memory.available_bytes)} free{limit})"


def _gpu(gpu: Gpu) -> str:
    parts = [gpu.name]
    if gpu.total_bytes:
        free = f", {format_bytes(gpu.free_bytes)} free" if gpu.free_bytes is not None else ""
        parts.append(f"{format_bytes(gpu.total_bytes)}{' shared with the CPU' if gpu.unified else ''}{free}")
    parts += [f"driver {gpu.driver}"] if gpu.driver else []
    parts += [f"CUDA {gpu.cuda}"] if gpu.cuda else []
    return ", ".join(parts)


def _provider(state: ProviderState) -> str:
    if state.usable:
        return f"✓ {state.name}" + ("" if state.name == "cpu" else f": {state.reason}")
    return f"✗ {state.name}: {state.reason}" + (f"; {state.fix}" if state.fix else "")


def _bytes(count: int | None) -> str:
    return format_bytes(count) if count else "?"


def _context(fit: ModelFit) -> str:
    """Rounded, as the free memory changes all the time."""
    tokens = fit.context_tokens
    if not tokens:
        return "?" if tokens is None else "–"
    if tokens < fit.entry.context_length:
        tokens -= tokens % (1000 if tokens >= 10_000 else 100)
    return f"{tokens:,}"


def _gpu_json(gpu: Gpu) -> dict[str, Any]:
    return {
        "name": gpu.name,
        "vendor": gpu.vendor,
        "index": gpu.index,
        "uuid": gpu.uuid or None,
        "total_bytes": gpu.total_bytes,
        "free_bytes": gpu.free_bytes,
        "driver": gpu.driver or None,
        "cuda": gpu.cuda or None,
        "mig": list(gpu.mig),
        "hidden": gpu.hidden,
        "unified": gpu.unified,
    }
