"""What `lmsupply hw` shows, as a value and as lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmsupply_cli import paths
from lmsupply_cli.catalogue.entry import CatalogueEntry
from lmsupply_cli.catalogue.lookup import read_catalogue
from lmsupply_cli.cli.places import shown_place
from lmsupply_cli.files import is_file
from lmsupply_cli.hardware.choice import Choice, ProviderState, choose_provider, provider_states
from lmsupply_cli.hardware.detect import detect_hardware
from lmsupply_cli.hardware.profile import Gpu, HardwareProfile
from lmsupply_cli.hardware.wheels import EngineWheels, detect_engine_wheels
from lmsupply_cli.loading.recommend import (
    Recommendation,
    expected_variant,
    largest_context,
    recommend_model,
    roughly_fits,
)
from lmsupply_cli.render.sheet import Row
from lmsupply_cli.store.pull import free_bytes
from lmsupply_cli.units import format_bytes

WIDTH = 13  # columns of the names
_NO_FILE = " (no such file yet)"


@dataclass(frozen=True)
class ModelFit:
    """What a catalogue model comes to here: the variant, whether it fits, the largest context."""

    entry: CatalogueEntry
    variant: str
    size_bytes: int | None
    fits: bool | None
    context_tokens: int | None


@dataclass(frozen=True)
class Machine:
    profile: HardwareProfile
    wheels: EngineWheels
    providers: tuple[ProviderState, ...]
    choice: Choice
    recommendation: Recommendation
    models: tuple[ModelFit, ...]
    settings_file: Path
    store: Path
    free_disk_bytes: int
    notes: tuple[str, ...] = ()

    @property
    def all_notes(self) -> list[str]:
        """What the probes could not find out, what is wrong with the engine's packages, and `notes`."""
        return [*self.profile.notes, *self.wheels.notes, *self.notes]


def read_machine(store: Path, notes: Sequence[str] = ()) -> Machine:
    profile, wheels = detect_hardware(), detect_engine_wheels()
    choice = choose_provider(profile, wheels)
    free = profile.memory.available_bytes
    if choice.device and not choice.device.unified:
        free = choice.device.free_bytes or choice.device.total_bytes or free
    return Machine(
        profile=profile,
        wheels=wheels,
        providers=tuple(provider_states(profile, wheels)),
        choice=choice,
        recommendation=recommend_model(free),
        models=tuple(_fit(entry, choice, free) for entry in read_catalogue() if entry.repo),
        settings_file=paths.settings_file(),
        store=store,
        free_disk_bytes=free_bytes(store),
        notes=tuple(notes),
    )


def _fit(entry: CatalogueEntry, choice: Choice, free: int) -> ModelFit:
    expected = expected_variant(entry, provider=choice.provider, precision=choice.precision)
    size = (expected.chosen.size_bytes or None) if expected else None
    variant = expected.chosen.name if expected else "none"
    return ModelFit(entry, variant, size, roughly_fits(entry, size, free), largest_context(entry, size, free))


def machine_rows(machine: Machine, *, models: bool) -> list[Row]:
    """Rows of name and value; with `models` a line for each of the catalogue."""
    profile, cpu = machine.profile, machine.profile.cpu
    wanted = machine.recommendation
    engines = ", ".join(f"{name} {version}" for name, version in machine.wheels.installed) or "not installed"
    rows = [
        ("cpu", f"{cpu.name} ({cpu.architecture}), {profile.system}"),
        ("cores", _cores(machine)),
        ("instructions", ", ".join(cpu.instructions) or "unknown"),
        ("threads", f"{cpu.usable_threads} ({_why_threads(machine)})"),
        ("memory", _memory(machine)),
        ("disk", f"{format_bytes(machine.free_disk_bytes)} free for models"),
        *[("gpu", _gpu(gpu)) for gpu in profile.gpus],
        *[("npu", f"{name} (the engine's builds here do not use it)") for name in profile.npus],
        ("engine", engines),
        *[("provider", _provider(state)) for state in machine.providers],
        *[("note", note) for note in machine.all_notes],
        ("use", f"{machine.choice.provider}, {machine.choice.precision}: {'; '.join(machine.choice.reasons)}"),
        ("recommended", f"lmsupply pull {wanted.entry.ref}: {wanted.reason}"),
        ("settings", shown_place(machine.settings_file) + ("" if is_file(machine.settings_file) else _NO_FILE)),
        ("models in", shown_place(machine.store)),
    ]
    if models:
        rows += [("model", _model(fit)) for fit in machine.models]
    return rows


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
            "model": machine.recommendation.entry.ref,
            "model_reason": machine.recommendation.reason,
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


def _cores(machine: Machine) -> str:
    cpu = machine.profile.cpu
    performance = f", {cpu.performance_cores} of them for performance" if cpu.performance_cores else ""
    quota = f", quota of {cpu.quota:g} CPUs" if cpu.quota else ""
    return f"{cpu.physical_cores} physical, {cpu.logical_cores} logical{performance}{quota}"


def _why_threads(machine: Machine) -> str:
    cpu = machine.profile.cpu
    if cpu.quota and cpu.quota < cpu.physical_cores:
        return "the container's quota"
    return "the performance cores" if cpu.performance_cores else "the physical cores that may be used"


def _memory(machine: Machine) -> str:
    memory = machine.profile.memory
    swap = f", {format_bytes(memory.swap_bytes)} swap" if memory.swap_bytes else ", no swap"
    limit = f", limited by {memory.limited_by or 'the container'}" if memory.limit_bytes else ""
    if not memory.total_bytes:
        return "unknown"
    return f"{format_bytes(memory.total_bytes)}, {format_bytes(memory.available_bytes)} available{swap}{limit}"


def _gpu(gpu: Gpu) -> str:
    parts = [gpu.name]
    if gpu.total_bytes:
        free = f", {format_bytes(gpu.free_bytes)} free" if gpu.free_bytes is not None else ""
        parts.append(f"{format_bytes(gpu.total_bytes)}{' shared with the CPU' if gpu.unified else ''}{free}")
    parts += [f"driver {gpu.driver}"] if gpu.driver else []
    parts += [f"CUDA {gpu.cuda}"] if gpu.cuda else []
    return ", ".join(parts)


def _provider(state: ProviderState) -> str:
    return f"{state.name}: {'usable' if state.usable else 'not usable'}, {state.reason}" + (
        f"; {state.fix}" if state.fix else ""
    )


def _model(fit: ModelFit) -> str:
    size = format_bytes(fit.size_bytes) if fit.size_bytes else "size unknown"
    context = f", context up to {fit.context_tokens:,}" if fit.context_tokens else ""
    fits = {True: f"fits{context}", False: "does not fit", None: "fit unknown"}[fit.fits]
    return f"{fit.entry.ref}: {fits}; {size}, {fit.variant.rsplit('/', 1)[-1]}"


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
