"""What this machine is, as values: detected once, printed, tested without the machine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Vendor = Literal["nvidia", "amd", "intel", "apple", "qualcomm", "microsoft", "other"]


@dataclass(frozen=True, slots=True)
class Cpu:
    """`performance_cores`: None where the CPU is not hybrid; `instructions`: those that matter to int4 kernels."""

    name: str
    architecture: str
    physical_cores: int
    logical_cores: int
    performance_cores: int | None
    instructions: tuple[str, ...]
    quota: float | None
    usable_threads: int


@dataclass(frozen=True, slots=True)
class Memory:
    """`limit_bytes`: of the container or of `ulimit`; total and available are within it."""

    total_bytes: int
    available_bytes: int
    swap_bytes: int
    limit_bytes: int | None


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
    """`notes`: what could not be found out, and what is odd."""

    system: str
    cpu: Cpu
    memory: Memory
    gpus: tuple[Gpu, ...] = ()
    npus: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default_factory=tuple)
