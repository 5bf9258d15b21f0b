"""What this machine is, as values: detected once, printed, tested without the machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Vendor = Literal["nvidia", "amd", "intel", "apple", "qualcomm", "microsoft", "other"]
# by the id of the vendor on the PCI bus
PCI_VENDORS: Mapping[str, Vendor] = {
    "10de": "nvidia", "1002": "amd", "1022": "amd", "8086": "intel", "106b": "apple", "17cb": "qualcomm", "1414": "microsoft",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Cpu:
    """`performance_cores`: None where the CPU is not hybrid; `instructions`: those that matter to int4 kernels;
    `usable_threads` is what the engine gets, `most_threads` what can run at once at all."""

    name: str
    architecture: str
    physical_cores: int
    logical_cores: int
    performance_cores: int | None
    instructions: tuple[str, ...]
    quota: float | None
    usable_threads: int
    most_threads: int = 1024


@dataclass(frozen=True, slots=True)
class Memory:
    """`limit_bytes`: the smallest that `limited_by` sets; total and available are within every limit. A total of 0
    means unknown."""

    total_bytes: int
    available_bytes: int
    swap_bytes: int
    limit_bytes: int | None
    limited_by: str = ""


@dataclass(frozen=True, slots=True)
class Gpu:
    """`hidden`: CUDA_VISIBLE_DEVICES leaves it out. `unified`: shares the machine's memory."""

    name: str
    vendor: Vendor
    total_bytes: int | None = None
    free_bytes: int | None = None
    index: int | None = None
    uuid: str = ""
    driver: str = ""
    cuda: str = ""
    mig: tuple[str, ...] = ()
    hidden: bool = False
    unified: bool = False


@dataclass(frozen=True)
class HardwareProfile:
    """`notes`: what could not be detected, and what is unusual."""

    system: str
    cpu: Cpu
    memory: Memory
    gpus: tuple[Gpu, ...] = ()
    npus: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default_factory=tuple)
