"""Which provider and precision suit this machine: one table of rules, each with its reason.

provider    cuda    an NVIDIA GPU with 4 GB or more is usable, and the engine carries cuda
            dml     Windows with a GPU, and the engine carries dml
            webgpu  a GPU and the WebGPU plug-in
            cpu     otherwise
precision   GPU     fp16 from 16 GB, int8 from 8 GB, else int4
            CPU     int4; int8 from 32 GB of memory where a variant exists
"""

from __future__ import annotations

import platform
from dataclasses import dataclass

from lmsupply_cli.hardware.cuda_libraries import missing_libraries
from lmsupply_cli.hardware.profile import Gpu, HardwareProfile
from lmsupply_cli.hardware.wheels import EngineWheels
from lmsupply_cli.units import format_bytes

_GB = 10**9
CUDA_LEAST_BYTES = 4 * _GB


@dataclass(frozen=True, slots=True)
class ProviderState:
    """`usable`: the engine carries it and there is a device; else `reason` says why not and `mend` what to do."""

    name: str
    usable: bool
    reason: str
    mend: str = ""


@dataclass(frozen=True, slots=True)
class Choice:
    """`device`: the GPU that the provider would use, None on the CPU."""

    provider: str
    precision: str
    reasons: tuple[str, ...]
    device: Gpu | None = None


def provider_states(
    profile: HardwareProfile, wheels: EngineWheels, *, system: str = platform.system()
) -> list[ProviderState]:
    """Every provider that `--provider` knows, in the order of preference."""
    return [
        _cuda(profile, wheels, system),
        _dml(profile, wheels, system),
        _webgpu(profile, wheels),
        ProviderState("cpu", True, "every build of the engine carries it"),
    ]


def choose_provider(profile: HardwareProfile, wheels: EngineWheels, *, system: str = platform.system()) -> Choice:
    states = provider_states(profile, wheels, system=system)
    best = next(state for state in states if state.usable)
    reasons = [
        f"{state.name} is not usable: {state.reason}"
        for state in states[: states.index(best)]
        if _worth_saying(state, profile)
    ]
    reasons.append(f"{best.name}: {best.reason}")
    device = _device(best.name, profile)
    memory = (device.total_bytes or 0) if device else profile.memory.total_bytes
    precision, why = choose_precision(best.name, memory)
    return Choice(best.name, precision, (*reasons, f"{precision}: {why}"), device)


def choose_precision(provider: str, memory_bytes: int) -> tuple[str, str]:
    have = format_bytes(memory_bytes)
    if provider == "cpu":
        if memory_bytes >= 32 * _GB:
            return "int8", f"{have} of memory, 32 GB or more; int4 where a model has no int8 variant"
        return "int4", "smallest and fastest on a CPU"
    if memory_bytes >= 16 * _GB:
        return "fp16", f"the GPU has {have}, 16 GB or more"
    if memory_bytes >= 8 * _GB:
        return "int8", f"the GPU has {have}, 8 GB or more"
    return "int4", f"the GPU has {have}, less than 8 GB"


def _cuda(profile: HardwareProfile, wheels: EngineWheels, system: str) -> ProviderState:
    cards = [gpu for gpu in profile.gpus if gpu.vendor == "nvidia"]
    usable = [gpu for gpu in cards if not gpu.hidden and (gpu.total_bytes or 0) >= CUDA_LEAST_BYTES]
    if not cards:
        return ProviderState("cuda", False, "no NVIDIA GPU was found")
    if all(gpu.hidden for gpu in cards):
        return ProviderState("cuda", False, "CUDA_VISIBLE_DEVICES leaves every GPU out", "unset CUDA_VISIBLE_DEVICES")
    if all(gpu.total_bytes is None for gpu in cards):
        return ProviderState(
            "cuda",
            False,
            "the NVIDIA driver does not answer",
            "install or load the NVIDIA driver; nvidia-smi must work",
        )
    if not usable:
        most = max(gpu.total_bytes or 0 for gpu in cards)
        return ProviderState(
            "cuda", False, f"{format_bytes(most)} of GPU memory, less than {format_bytes(CUDA_LEAST_BYTES)}"
        )
    if system == "Darwin":
        return ProviderState("cuda", False, "there is no CUDA on macOS")
    if "cuda" not in wheels.providers:
        mend = "pip uninstall -y onnxruntime-genai onnxruntime && pip install onnxruntime-genai-cuda"
        return ProviderState("cuda", False, f"{usable[0].name} is there, but the installed engine is a CPU build", mend)
    missing = missing_libraries()
    if missing:
        mend = "pip install nvidia-cudnn-cu12 nvidia-cublas-cu12 nvidia-cuda-runtime-cu12, or install CUDA and cuDNN 9"
        return ProviderState("cuda", False, f"{' and '.join(missing)} cannot be found", mend)
    return ProviderState("cuda", True, f"{usable[0].name} with {format_bytes(usable[0].total_bytes or 0)}")


def _dml(profile: HardwareProfile, wheels: EngineWheels, system: str) -> ProviderState:
    if system != "Windows":
        return ProviderState("dml", False, "DirectML is there on Windows only")
    if not profile.gpus:
        return ProviderState("dml", False, "no GPU was found")
    if "dml" not in wheels.providers:
        mend = "pip uninstall -y onnxruntime-genai onnxruntime && pip install onnxruntime-genai-winml"
        return ProviderState(
            "dml", False, f"{profile.gpus[0].name} is there, but the installed engine has no DirectML", mend
        )
    return ProviderState(
        "dml",
        True,
        f"{profile.gpus[0].name} through DirectML; a chat reads its history again each turn there: where CUDA is to be had, use it",
    )


def _webgpu(profile: HardwareProfile, wheels: EngineWheels) -> ProviderState:
    if not profile.gpus:
        return ProviderState("webgpu", False, "no GPU was found")
    if "webgpu" not in wheels.providers:
        return ProviderState(
            "webgpu", False, "the WebGPU plug-in is not installed", "pip install onnxruntime-ep-webgpu"
        )
    return ProviderState("webgpu", True, f"{profile.gpus[0].name} through the WebGPU plug-in")


def _worth_saying(state: ProviderState, profile: HardwareProfile) -> bool:
    return bool(state.mend) or (state.name == "cuda" and any(gpu.vendor == "nvidia" for gpu in profile.gpus))


def _device(provider: str, profile: HardwareProfile) -> Gpu | None:
    if provider == "cpu":
        return None
    gpus = [gpu for gpu in profile.gpus if not gpu.hidden and (provider != "cuda" or gpu.vendor == "nvidia")]
    return max(gpus, key=lambda gpu: gpu.total_bytes or 0, default=None)
