"""The execution providers: one row each. Settings, folders, variants, wheels and the choice for a machine read them here.

A new provider is a row; where more than its wheel, its system and its GPUs decide whether it runs, it also needs a
probe in `hardware/choice.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

_GB = 10**9
GPU = "gpu"  # a variant for any GPU, which names no provider
ANY = ""  # a variant that names no device at all
ENGINE_WHEEL = "onnxruntime-genai"
RUNTIME_WHEEL = "onnxruntime"
PRECISIONS = ("int4", "int8", "fp16", "bf16", "fp32")  # of weights, as folders name them; the preferred ones first


class Plugin(NamedTuple):
    """A provider in a package of its own, beside any build of the engine."""

    wheel: str
    module: str
    registered_as: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """`name`: the value of the setting; `label`: for people; `engine_name`: the engine's, "" for none; `engine_check`:
    the engine's function that says whether it is built with it; `wheels`: builds of the engine that carry it;
    `runtime`: the build of onnxruntime that the first of them needs; `folder_words`: words in the name of a folder that
    was made for it; `runs`: devices of variants that it runs, the best first; `precisions`: (least memory, precision),
    the best first; `needs_gpu`, `vendors`, `systems`, `least_bytes`: what it needs, any vendor and any system if
    empty; `options`: what a model folder may set without being trusted; `restarts`: it cannot extend a KV cache once it
    decodes; `remark`: a note for its users; `fix`: how to install it.
    """

    name: str
    label: str
    folder_words: frozenset[str]
    runs: tuple[str, ...]
    precisions: tuple[tuple[int, str], ...] = ((16 * _GB, "fp16"), (8 * _GB, "int8"), (0, "int4"))
    engine_name: str = ""
    engine_check: str = ""
    wheels: tuple[str, ...] = ()
    runtime: str = ""
    plugin: Plugin | None = None
    needs_gpu: bool = True
    vendors: frozenset[str] = frozenset()
    systems: frozenset[str] = frozenset()
    least_bytes: int = 0
    options: frozenset[str] = frozenset()
    restarts: bool = False
    remark: str = ""
    fix: str = ""

    @property
    def declared(self) -> str:
        """How a genai_config.json names it, in small letters."""
        return self.engine_name.lower() or self.name

    @property
    def gpu_label(self) -> str:
        """The GPUs that it uses, as messages name them."""
        return " ".join((" or ".join(_VENDORS.get(vendor, vendor) for vendor in sorted(self.vendors)), "GPU")).strip()


_VENDORS = {"nvidia": "NVIDIA", "amd": "AMD", "intel": "Intel", "apple": "Apple", "qualcomm": "Qualcomm"}


class OtherDevice(NamedTuple):
    """A device that no provider here uses, so that variants for it are recognized and left out."""

    name: str
    folder_words: frozenset[str]
    declared: frozenset[str]


# In the order of preference; the CPU, which runs everywhere, is the last.
PROVIDERS: tuple[Provider, ...] = (
    Provider(
        name="cuda",
        label="CUDA",
        engine_name="cuda",
        engine_check="is_cuda_available",
        wheels=("onnxruntime-genai-cuda",),
        runtime="onnxruntime-gpu",
        folder_words=frozenset(("cuda",)),
        runs=("cuda", GPU, ANY, "cpu"),
        vendors=frozenset(("nvidia",)),
        systems=frozenset(("Linux", "Windows")),
        least_bytes=4 * _GB,
        options=frozenset((
            "arena_extend_strategy", "cudnn_conv1d_pad_to_nc1d", "cudnn_conv_algo_search",
            "cudnn_conv_use_max_workspace", "device_id", "do_copy_in_default_stream", "enable_cuda_graph",
            "enable_skip_layer_norm_strict_mode", "fuse_conv_bias", "gpu_mem_limit", "initial_chunk_size_bytes",
            "max_dead_bytes_per_chunk", "max_mem", "prefer_nhwc", "sdpa_kernel", "tunable_op_enable",
            "tunable_op_tuning_enable", "use_ep_level_unified_stream", "use_tf32",
        )),
        fix="pip uninstall -y onnxruntime-genai onnxruntime && pip install onnxruntime-genai-cuda",
    ),
    Provider(
        name="dml",
        label="DirectML",
        engine_name="dml",
        engine_check="is_dml_available",
        wheels=("onnxruntime-genai-directml", "onnxruntime-genai-winml"),
        runtime="onnxruntime-directml",
        folder_words=frozenset(("directml", "dml")),
        runs=("dml", GPU, ANY, "cpu"),
        systems=frozenset(("Windows",)),
        options=frozenset((
            "device_filter", "device_id", "disable_metacommands", "enable_dynamic_graph_fusion",
            "enable_graph_capture", "performance_preference",
        )),
        restarts=True,
        remark="through DirectML, which prefills the whole chat again for each turn; use CUDA if it is available",
        fix="pip uninstall -y onnxruntime-genai onnxruntime && pip install onnxruntime-genai-winml",
    ),
    Provider(
        name="webgpu",
        label="WebGPU",
        engine_name="WebGPU",
        plugin=Plugin("onnxruntime-ep-webgpu", "onnxruntime_ep_webgpu", "webgpu"),
        folder_words=frozenset(("webgpu", "web")),
        runs=("webgpu", GPU, ANY, "cpu"),
        options=frozenset((
            "dawnBackendType", "defaultBufferCacheMode", "deviceId", "enableGraphCapture", "enableInt64",
            "enablePIXCapture", "forceCpuNodeNames", "maxNumPendingDispatches", "maxStorageBufferBindingSize",
            "powerPreference", "preferredLayout", "preserveDevice", "queryResolveBufferCacheMode",
            "storageBufferCacheMode", "uniformBufferCacheMode", "validationMode",
        )),
        remark="through the WebGPU plug-in",
        fix="pip install onnxruntime-ep-webgpu",
    ),
    Provider(
        name="cpu",
        label="CPU",
        wheels=(ENGINE_WHEEL,),
        runtime=RUNTIME_WHEEL,
        folder_words=frozenset(("cpu", "mobile")),
        runs=("cpu", ANY),
        precisions=((32 * _GB, "int8"), (0, "int4")),
        needs_gpu=False,
        remark="every build of the engine supports it",
        fix="pip install onnxruntime-genai",
    ),
)  # fmt: skip

OTHER_DEVICES: tuple[OtherDevice, ...] = (
    OtherDevice(
        "npu",
        frozenset(("npu", "qnn", "ryzenai", "openvino", "vitisai")),
        frozenset(("qnn", "openvino", "ryzenai", "vitisai")),
    ),
    OtherDevice("trt", frozenset(("trtrtx",)), frozenset(("nvtensorrtrtx",))),
    OtherDevice("amd", frozenset(), frozenset(("amdgpu",))),
)

CPU = PROVIDERS[-1]
PROVIDER_NAMES: tuple[str, ...] = tuple(sorted(row.name for row in PROVIDERS))
ROWS = {row.name: row for row in PROVIDERS}
RESTARTING = frozenset(row.name for row in PROVIDERS if row.restarts)

_BY_DECLARED = {row.declared: row for row in PROVIDERS}


def provider_declared(name: str) -> Provider | None:
    """The provider that a config declares as `name` (in small letters), None for one that is not supported."""
    return _BY_DECLARED.get(name)


def device_declared(name: str) -> str:
    """The device that a config's provider means; an unknown name stands for itself, "" for "".

    A row of PROVIDERS goes before OTHER_DEVICES, so that a new provider needs no second edit.
    """
    if row := provider_declared(name):
        return row.name
    return next((other.name for other in OTHER_DEVICES if name in other.declared), name)


def folder_devices() -> dict[str, str]:
    """Word in the name of a folder → the device that it was made for."""
    words = {word: other.name for other in OTHER_DEVICES for word in other.folder_words} | {GPU: GPU}
    return words | {word: row.name for row in PROVIDERS for word in row.folder_words}


def device_order() -> tuple[str, ...]:
    """Devices of which the first counts where a folder's name has words for several."""
    return (*(other.name for other in OTHER_DEVICES), *(r.name for r in PROVIDERS if r is not CPU), GPU, CPU.name)
