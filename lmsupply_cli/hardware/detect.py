"""The whole machine. Never raises: a probe that fails becomes a note."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Iterable
from typing import TypeVar

from lmsupply_cli.hardware import apple, linux, nvidia, windows
from lmsupply_cli.hardware.host import detect_cpu, detect_memory
from lmsupply_cli.hardware.probe import ProbeFailed, run_probe
from lmsupply_cli.hardware.profile import Gpu, HardwareProfile

T = TypeVar("T")


def detect_hardware() -> HardwareProfile:
    """Detect CPU, memory and limits, GPUs, NPUs. It may take seconds, and never fails: what can't be detected is in
    `notes`."""
    notes: list[str] = []
    no_gpus: list[Gpu] = []
    no_npus: list[str] = []
    gpus = _or_note(lambda: nvidia.probe(os.environ.get("CUDA_VISIBLE_DEVICES")), no_gpus, notes)
    others, npus = _or_note(_other_devices, (no_gpus, no_npus), notes)
    gpus = merge_gpus(gpus, others)
    if is_wsl(platform.release()):
        notes.append("WSL: the GPU is the one of Windows, through its driver; install no Linux driver here")
    notes += gpu_notes(gpus)
    return HardwareProfile(
        system=f"{platform.system()} {platform.release()}",
        cpu=detect_cpu(),
        memory=detect_memory(),
        gpus=tuple(gpus),
        npus=tuple(npus),
        notes=tuple(notes),
    )


def is_wsl(release: str) -> bool:
    """By the kernel's release: `5.15.167.4-microsoft-standard-WSL2`."""
    return "microsoft" in release.lower()


def merge_gpus(nvidia_gpus: Iterable[Gpu], others: Iterable[Gpu]) -> list[Gpu]:
    """What NVIDIA's own tools say goes before what the bus says of the same cards."""
    known = list(nvidia_gpus)
    return known + [gpu for gpu in others if gpu.vendor != "nvidia" or not known]


def gpu_notes(gpus: Iterable[Gpu]) -> list[str]:
    """What the user should know about the GPUs."""
    found = list(gpus)
    notes = [f"{gpu.name} is left out by CUDA_VISIBLE_DEVICES" for gpu in found if gpu.hidden]
    notes += [
        f"{gpu.name} is there, but its driver is not: nvidia-smi and NVML tell nothing"
        for gpu in found
        if gpu.vendor == "nvidia" and gpu.total_bytes is None and not gpu.mig
    ]
    notes += [f"{gpu.name} is split by MIG: {', '.join(gpu.mig)}" for gpu in found if gpu.mig]
    return notes


def _other_devices() -> tuple[list[Gpu], list[str]]:
    if sys.platform == "win32":
        return windows.probe(), []
    if sys.platform == "darwin":
        return apple.apple_gpu(apple.probe()), []
    return linux.parse_lspci(run_probe(["lspci", "-mm", "-nn"]) or "")


def _or_note(act: Callable[[], T], otherwise: T, notes: list[str]) -> T:
    try:
        return act()
    except ProbeFailed as error:
        notes.append(str(error))
    except Exception as error:  # a driver may do anything; hw must still answer
        notes.append(f"a probe failed: {type(error).__name__}: {error}")
    return otherwise
