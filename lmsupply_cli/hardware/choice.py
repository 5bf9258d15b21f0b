"""Which provider and precision suit this machine, each with its reason.

A provider is usable if its row in `lmsupply_cli.providers` says so: the system, a GPU of its vendors with enough
memory, and a wheel or plug-in that carries it. PROBES contains the checks of single providers. The first usable one
is chosen, in the order of the table, and the precision by the memory of its device.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from typing import NamedTuple

from lmsupply_cli.hardware.cuda_libraries import missing_libraries
from lmsupply_cli.hardware.profile import Gpu, HardwareProfile
from lmsupply_cli.hardware.wheels import EngineWheels
from lmsupply_cli.providers import CPU, PROVIDERS, ROWS, Provider
from lmsupply_cli.units import format_bytes

_GB = 10**9


class ProviderState(NamedTuple):
    """`usable`: the engine carries it and there is a device; else `reason` says why not and `fix` what to do."""

    name: str
    usable: bool
    reason: str
    fix: str = ""


class Choice(NamedTuple):
    """`device`: the GPU that the provider would use, None on the CPU."""

    provider: str
    precision: str
    reasons: tuple[str, ...]
    device: Gpu | None = None


class ProbedMachine(NamedTuple):
    """What a probe looks at; `system` as platform.system() says it."""

    profile: HardwareProfile
    wheels: EngineWheels
    system: str


Probe = Callable[[Provider, ProbedMachine], ProviderState]


def provider_states(
    profile: HardwareProfile, wheels: EngineWheels, *, system: str = platform.system()
) -> list[ProviderState]:
    """Every provider that `--provider` knows, in the order of preference."""
    machine = ProbedMachine(profile, wheels, system)
    return [PROBES.get(row.name, probe_row)(row, machine) for row in PROVIDERS]


def choose_provider(profile: HardwareProfile, wheels: EngineWheels, *, system: str = platform.system()) -> Choice:
    states = provider_states(profile, wheels, system=system)
    best = next(state for state in states if state.usable)
    reasons = [
        f"{state.name} is not usable: {state.reason}"
        for state in states[: states.index(best)]
        if _worth_saying(state, profile)
    ]
    reasons.append(f"{best.name}: {best.reason}")
    device = max(usable_gpus(best.name, profile), key=lambda gpu: gpu.total_bytes or 0, default=None)
    memory = (device.total_bytes or 0) if device else profile.memory.total_bytes
    precision, why = choose_precision(best.name, memory)
    return Choice(best.name, precision, (*reasons, f"{precision}: {why}"), device)


def choose_precision(provider: str, memory_bytes: int) -> tuple[str, str]:
    """The first precision of the provider's row for which the device's memory is enough, and why."""
    row = ROWS[provider]
    ladder = row.precisions
    at, (least, precision) = next((at, rung) for at, rung in enumerate(ladder) if memory_bytes >= rung[0])
    have = f"the GPU has {format_bytes(memory_bytes)}" if row.needs_gpu else f"{format_bytes(memory_bytes)} of memory"
    if least:
        rest = "" if row.needs_gpu else f"; {ladder[-1][1]} if a model has no {precision} variant"
        return precision, f"{have}; {precision} needs at least {least // _GB} GB{rest}"
    if not row.needs_gpu:
        return precision, f"smallest and fastest on a {row.label}"
    if not memory_bytes:
        return precision, "the memory of the GPU is unknown"
    return precision, f"{have}, less than {ladder[at - 1][0] // _GB} GB" if at else have


def usable_gpus(provider: str, profile: HardwareProfile) -> list[Gpu]:
    """The GPUs that the provider can use; none for one that needs none."""
    row = ROWS[provider]
    return [gpu for gpu in _cards(row, profile) if not gpu.hidden] if row.needs_gpu else []


def probe_row(row: Provider, machine: ProbedMachine) -> ProviderState:
    """Whether the provider is usable, as far as its row tells."""
    if row.systems and machine.system not in row.systems:
        return ProviderState(row.name, False, f"{' and '.join(sorted(row.systems))} only")
    name, remark = "", row.remark
    if row.needs_gpu:
        cards = _cards(row, machine.profile)
        usable = [gpu for gpu in cards if not gpu.hidden and (gpu.total_bytes or 0) >= row.least_bytes]
        if not cards:
            return ProviderState(row.name, False, f"no {row.gpu_label} was found")
        if not usable:
            most = max(gpu.total_bytes or 0 for gpu in cards)
            text = f"{format_bytes(most)} of GPU memory, less than {format_bytes(row.least_bytes)}"
            return ProviderState(row.name, False, text)
        name = usable[0].name
        remark = remark or f"with {format_bytes(usable[0].total_bytes or 0)}"
    if row is not CPU and row.name not in machine.wheels.providers:
        return ProviderState(row.name, False, _not_installed(row, name), row.fix)
    return ProviderState(row.name, True, f"{name} {remark}".strip())


def _not_installed(row: Provider, device: str) -> str:
    if row.plugin:
        return f"the {row.label} plug-in is not installed"
    return f"{device + ' was found, but ' if device else ''}the installed engine does not support {row.label}"


def _probe_cuda(row: Provider, machine: ProbedMachine) -> ProviderState:
    """CUDA hides GPUs by an environment variable, and needs the driver and libraries of its own."""
    cards = _cards(row, machine.profile)
    if cards and all(gpu.hidden for gpu in cards):
        return ProviderState(row.name, False, "CUDA_VISIBLE_DEVICES hides every GPU", "unset CUDA_VISIBLE_DEVICES")
    if cards and all(gpu.total_bytes is None for gpu in cards):
        fix = "install or load the NVIDIA driver; nvidia-smi must work"
        return ProviderState(row.name, False, "the NVIDIA driver does not respond", fix)
    state = probe_row(row, machine)
    if state.usable and (missing := missing_libraries()):
        fix = "pip install nvidia-cudnn-cu12 nvidia-cublas-cu12 nvidia-cuda-runtime-cu12, or install CUDA and cuDNN 9"
        return ProviderState(row.name, False, f"{' and '.join(missing)} not found", fix)
    return state


PROBES: Mapping[str, Probe] = {"cuda": _probe_cuda}


def _cards(row: Provider, profile: HardwareProfile) -> list[Gpu]:
    return [gpu for gpu in profile.gpus if not row.vendors or gpu.vendor in row.vendors]


def _worth_saying(state: ProviderState, profile: HardwareProfile) -> bool:
    """A reason to name where something else was chosen: it can be fixed, or there is a GPU made for the provider."""
    row = ROWS[state.name]
    return bool(state.fix) or bool(row.vendors and _cards(row, profile))
