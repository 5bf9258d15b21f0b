"""NVIDIA GPUs: NVML where its library is, else `nvidia-smi`. Parsers are pure; only `probe` touches the machine."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from lmsupply_cli.hardware.linux import whole_number
from lmsupply_cli.hardware.probe import ProbeFailed, run_probe
from lmsupply_cli.hardware.profile import Gpu
from lmsupply_cli.units import shortened

_MIB = 1 << 20
QUERY = "index,name,uuid,memory.total,memory.free,driver_version"
_SMI = ["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader,nounits"]
_LIBRARIES = ("libnvidia-ml.so.1", "nvml.dll")


def probe(visible: str | None) -> list[Gpu]:
    """Every GPU; `visible` is CUDA_VISIBLE_DEVICES. Raises ProbeFailed if there is a driver and it fails."""
    gpus = _from_nvml()
    if gpus is None:
        text = run_probe(_SMI)
        if text is None:
            return []
        gpus = parse_smi(text)
        cuda = parse_cuda_version(run_probe(["nvidia-smi"]) or "")
        gpus = [replace(gpu, cuda=cuda) for gpu in gpus]
    slices = parse_mig(run_probe(["nvidia-smi", "-L"]) or "") if gpus else {}
    return mark_visible([replace(gpu, mig=slices.get(gpu.uuid, ())) for gpu in gpus], visible)


def parse_smi(text: str) -> list[Gpu]:
    """The CSV of `nvidia-smi --query-gpu`. Raises ProbeFailed for its error texts and for garbage."""
    if "No devices were found" in text:
        return []
    import csv
    import io

    gpus = []
    for row in csv.reader(io.StringIO(text), skipinitialspace=True):
        if not row:
            continue
        if len(row) != len(QUERY.split(",")) or whole_number(row[0].strip()) is None:
            raise ProbeFailed("nvidia-smi: " + shortened(text, 120))
        index, name, uuid, total, free, driver = (cell.strip() for cell in row)
        gpus.append(Gpu(name, "nvidia", _mib(total), _mib(free), int(index), uuid, driver))
    return gpus


def parse_cuda_version(text: str) -> str:
    """The highest CUDA version that the driver serves, from the header of `nvidia-smi`."""
    match = re.search(r"CUDA Version:\s*(\d+\.\d+)", text)
    return match.group(1) if match else ""


def parse_mig(text: str) -> dict[str, tuple[str, ...]]:
    """GPU uuid → names of its MIG slices, from `nvidia-smi -L`."""
    slices: dict[str, tuple[str, ...]] = {}
    uuid = ""
    for line in text.splitlines():
        if match := re.match(r"GPU \d+: .*\(UUID: (GPU-[^)]+)\)", line):
            uuid = match.group(1)
        elif (match := re.match(r"\s+MIG (\S+)\s+Device\s+\d+: \(UUID: (MIG-[^)]+)\)", line)) and uuid:
            slices[uuid] = (*slices.get(uuid, ()), match.group(1))
    return slices


def mark_visible(gpus: Sequence[Gpu], visible: str | None) -> list[Gpu]:
    """As CUDA reads CUDA_VISIBLE_DEVICES: indices or uuid prefixes; the first that is invalid ends the list."""
    if visible is None:
        return list(gpus)
    chosen: set[int] = set()
    for word in (part.strip() for part in visible.split(",")):
        found = [n for n, gpu in enumerate(gpus) if (word and gpu.index == whole_number(word)) or _names(word, gpu)]
        if not found:
            break
        chosen.update(found)
    return [replace(gpu, hidden=n not in chosen) for n, gpu in enumerate(gpus)]


def _names(word: str, gpu: Gpu) -> bool:
    return word.startswith("GPU-") and gpu.uuid.startswith(word)


def _mib(text: str) -> int | None:
    count = whole_number(text)
    return None if count is None else count * _MIB


class _NvmlMemory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


def _from_nvml() -> list[Gpu] | None:
    """None where the library is not there. (nvml.h: nvmlDeviceGetMemoryInfo counts bytes in 64 bits.)"""
    library: Any = None
    for name in _LIBRARIES:
        try:
            library = ctypes.CDLL(name)
            break
        except OSError:
            continue
    if library is None:
        return None
    if (status := library.nvmlInit_v2()) != 0:
        raise ProbeFailed(f"NVML does not start (error {status}): is the driver loaded, and as new as its library?")
    try:
        return _read_nvml(library)
    finally:
        library.nvmlShutdown()


def _read_nvml(library: Any) -> list[Gpu]:
    count, version = ctypes.c_uint(), ctypes.c_int()
    driver = ctypes.create_string_buffer(96)
    library.nvmlDeviceGetCount_v2(ctypes.byref(count))
    library.nvmlSystemGetDriverVersion(driver, 96)
    library.nvmlSystemGetCudaDriverVersion(ctypes.byref(version))
    cuda = f"{version.value // 1000}.{version.value % 1000 // 10}" if version.value else ""
    gpus = []
    for index in range(count.value):
        handle, memory = ctypes.c_void_p(), _NvmlMemory()
        name, uuid = ctypes.create_string_buffer(96), ctypes.create_string_buffer(96)
        if library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle)) != 0:
            continue
        library.nvmlDeviceGetName(handle, name, 96)
        library.nvmlDeviceGetUUID(handle, uuid, 96)
        known = library.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)) == 0
        gpus.append(
            Gpu(
                name.value.decode(errors="replace"),
                "nvidia",
                memory.total if known else None,
                memory.free if known else None,
                index,
                uuid.value.decode(errors="replace"),
                driver.value.decode(errors="replace"),
                cuda,
            )
        )
    return gpus
