"""Probes are pure parsers over what tools print; every fixture whose name begins with synthetic_ was written by hand."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from lmsupply_cli.hardware import apple, host, linux, nvidia, windows
from lmsupply_cli.hardware.choice import choose_provider, provider_states
from lmsupply_cli.hardware.cuda_libraries import missing_libraries
from lmsupply_cli.hardware.detect import detect_hardware, gpu_notes, is_wsl, merge_gpus
from lmsupply_cli.hardware.probe import ProbeFailed, run_probe
from lmsupply_cli.hardware.profile import Cpu, Gpu, HardwareProfile, Memory
from lmsupply_cli.hardware.wheels import judge_wheels

DATA = Path(__file__).parent.parent / "data" / "hardware"
GIB = 1 << 30


def text(name: str) -> str:
    return (DATA / name).read_text(encoding="utf-8", errors="replace")


def smi(name: str) -> list[Gpu]:
    return nvidia.parse_smi(text(name))


def test_there_are_enough_fixtures() -> None:
    assert len(list(DATA.iterdir())) >= 15


def test_one_gpu_in_full_64_bits() -> None:
    (gpu,) = smi("synthetic_smi_one_gpu.csv")
    assert (gpu.name, gpu.total_bytes, gpu.free_bytes) == ("NVIDIA GeForce RTX 4090", 24564 << 20, 23012 << 20)
    assert gpu.total_bytes is not None
    assert gpu.total_bytes > 2**32
    assert gpu.driver == "550.54.15"


def test_several_gpus_and_which_are_visible() -> None:
    gpus = smi("synthetic_smi_two_gpus.csv")

    def hidden(visible: str | None) -> list[bool]:
        return [gpu.hidden for gpu in nvidia.mark_visible(gpus, visible)]

    assert hidden(None) == [False, False]
    assert hidden("1") == [True, False]
    assert hidden("0,1") == [False, False]
    assert hidden("") == hidden("-1") == hidden("NoDevFiles") == [True, True]
    assert hidden("GPU-2222") == [True, False]
    assert hidden("1,9,0") == [True, False], "the first invalid one ends the list"


@pytest.mark.parametrize(
    "name", ["synthetic_smi_no_driver.txt", "synthetic_smi_driver_too_old.txt", "synthetic_smi_garbage.txt"]
)
def test_what_fails_is_said_in_one_line(name: str) -> None:
    with pytest.raises(ProbeFailed) as caught:
        smi(name)
    assert str(caught.value).startswith("nvidia-smi: ")
    assert "\n" not in str(caught.value)


def test_a_container_without_a_device_and_memory_that_is_not_told() -> None:
    assert smi("synthetic_smi_container_without_device.txt") == []
    (gpu,) = smi("synthetic_smi_memory_not_available.csv")
    assert gpu.total_bytes is None


def test_mig_and_cuda_version() -> None:
    slices = nvidia.parse_mig(text("synthetic_smi_list_mig.txt"))
    assert slices == {"GPU-55555555-aaaa-bbbb-cccc-000000000005": ("1g.5gb", "3g.20gb")}
    assert nvidia.parse_cuda_version(text("synthetic_smi_header.txt")) == "12.4"
    assert nvidia.parse_cuda_version("") == ""


@pytest.mark.parametrize(
    ("name", "cpu", "instructions"),
    [
        (
            "synthetic_cpuinfo_xeon_amx.txt",
            "Intel(R) Xeon(R) Platinum 8480+",
            ("AVX2", "AVX-512", "AVX-512 VNNI", "AMX"),
        ),
        ("synthetic_cpuinfo_hybrid.txt", "13th Gen Intel(R) Core(TM) i7-1360P", ("AVX2", "AVX-VNNI")),
        ("synthetic_cpuinfo_arm.txt", "", ("NEON", "dot product", "i8mm", "SVE")),
        ("synthetic_cpuinfo_old.txt", "AMD Sempron(tm)", ()),
        ("synthetic_cpuinfo_garbage.txt", "", ()),
    ],
)
def test_cpuinfo(name: str, cpu: str, instructions: tuple[str, ...]) -> None:
    assert linux.parse_cpuinfo(text(name)) == (cpu, instructions)


def test_hybrid_cpus(tmp_path: Path) -> None:
    assert linux.parse_cpu_list("0-3,8,10-11\n") == 7
    assert linux.parse_cpu_list("x") == 0
    assert linux.parse_capacities({0: 446, 1: 446, 2: 1024, 3: 1024}) == 2
    assert linux.parse_capacities({0: 1024, 1: 1024}) is None
    assert linux.performance_cores(tmp_path) is None
    for number, capacity in enumerate((400, 1024)):
        folder = tmp_path / "system" / "cpu" / f"cpu{number}"
        folder.mkdir(parents=True)
        (folder / "cpu_capacity").write_text(str(capacity))
    assert linux.performance_cores(tmp_path) == 1
    (tmp_path / "cpu_core").mkdir()
    (tmp_path / "cpu_core" / "cpus").write_text("0-7\n")
    assert linux.performance_cores(tmp_path) == 8


def test_lspci_names_gpus_and_npus() -> None:
    gpus, npus = linux.parse_lspci(text("synthetic_lspci_desktop.txt"))
    assert [(g.name, g.vendor) for g in gpus] == [
        ("Intel Iris Xe Graphics", "intel"),
        ("NVIDIA GeForce RTX 4050 Max-Q / Mobile", "nvidia"),
    ]
    assert npus == ["Intel Meteor Lake NPU"]
    gpus, npus = linux.parse_lspci(text("synthetic_lspci_amd.txt"))
    assert [(g.name, g.vendor) for g in gpus] == [("AMD/ATI Radeon RX 7900 XTX", "amd")]
    assert npus == ["AMD AMD IPU Device"]
    assert linux.parse_lspci(text("synthetic_lspci_garbage.txt")) == ([], [])


def test_apple_silicon() -> None:
    values = apple.parse_sysctl(text("synthetic_sysctl_m3.txt"))
    (gpu,) = apple.apple_gpu(values)
    assert (gpu.name, gpu.total_bytes, gpu.unified) == ("Apple M3 Pro GPU", 36 * GIB, True)
    assert apple.apple_instructions(values) == ("NEON", "dot product", "i8mm")
    assert apple.performance_cores(values) == 6
    intel = apple.parse_sysctl(text("synthetic_sysctl_intel_mac.txt"))
    assert apple.apple_gpu(intel) == []
    assert apple.performance_cores(intel) is None


@pytest.mark.parametrize(
    ("vendor", "dedicated", "shared", "flags", "total", "unified"),
    [
        (0x10DE, 24 * GIB, 16 * GIB, 0, 24 * GIB, False),
        (0x1002, 6 * GIB, 8 * GIB, 0, 6 * GIB, False),
        (0x8086, 128 << 20, 16 * GIB, 0, 16 * GIB, True),
        (0x1414, 0, 8 * GIB, 2, None, None),
    ],
)
def test_dxgi_adapters(
    vendor: int, dedicated: int, shared: int, flags: int, total: int | None, unified: bool | None
) -> None:
    name = "Some Adapter".encode("utf-16-le").ljust(256, b"\0")
    data = struct.pack("<256s4I3Q3I", name, vendor, 1, 2, 3, dedicated, 0, shared, 4, 5, flags) + bytes(4)
    assert len(data) == windows.DESCRIPTION_BYTES
    gpu = windows.parse_adapter(data)
    if total is None:
        assert gpu is None
    else:
        assert gpu is not None
        assert (gpu.name, gpu.total_bytes, gpu.unified) == ("Some Adapter", total, unified)


@pytest.mark.parametrize(
    ("physical", "logical", "performance", "allowed", "quota", "threads"),
    [
        (8, 16, None, None, None, 8),
        (2, 2, None, 2, None, 2),
        (8, 16, None, 4, None, 2),
        (8, 8, None, 8, 2.5, 2),
        (8, 8, None, 8, 0.5, 1),
        (14, 20, 6, 20, None, 6),
        (10, 10, 12, None, None, 10),
    ],
)
def test_threads(
    physical: int, logical: int, performance: int | None, allowed: int | None, quota: float | None, threads: int
) -> None:
    assert host.choose_threads(physical, logical, performance, allowed, quota) == threads


def test_a_tool_that_hangs_or_is_missing() -> None:
    assert run_probe(["no-such-tool-at-all"]) is None
    assert run_probe([sys.executable, "-c", "print('x')"]) == "x\n"
    with pytest.raises(ProbeFailed, match=r"did not answer in 0\.1 s"):
        run_probe([sys.executable, "-c", "import time; time.sleep(30)"], limit_s=0.1)


def test_detection_never_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*_: object) -> list[Gpu]:
        raise RuntimeError("boom")

    monkeypatch.setattr(nvidia, "probe", explode)
    monkeypatch.setattr(linux, "parse_lspci", explode)
    profile = detect_hardware()
    assert profile.gpus == ()
    assert any("boom" in note for note in profile.notes)
    assert profile.cpu.usable_threads >= 1


def test_wsl_is_told_by_its_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    release = text("synthetic_wsl2_release.txt").strip()
    assert is_wsl(release)
    assert not is_wsl("6.8.0-45-generic")
    monkeypatch.setattr("lmsupply_cli.hardware.detect.platform.release", lambda: release)
    assert any(note.startswith("WSL:") for note in detect_hardware().notes)
    (gpu,) = smi("synthetic_smi_wsl2.csv")
    assert (gpu.name, gpu.driver) == ("NVIDIA GeForce RTX 3060", "566.36")


def test_one_card_is_named_once() -> None:
    known, bus = smi("synthetic_smi_one_gpu.csv"), linux.parse_lspci(text("synthetic_lspci_desktop.txt"))[0]
    assert [g.vendor for g in merge_gpus(known, bus)] == ["nvidia", "intel"]
    assert [g.vendor for g in merge_gpus([], bus)] == ["intel", "nvidia"]
    assert any("its driver is not" in note for note in gpu_notes(bus))


@pytest.fixture(autouse=True)
def cuda_libraries_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lmsupply_cli.hardware.choice.missing_libraries", list)


CPU_WHEEL = {"onnxruntime-genai": "0.18.0", "onnxruntime": "1.32.0"}
CUDA_WHEEL = {"onnxruntime-genai-cuda": "0.18.0", "onnxruntime-gpu": "1.32.0"}
WINML = {"onnxruntime-genai-winml": "0.18.0"}


def machine(*gpus: Gpu, memory: float = 16e9) -> HardwareProfile:
    cpu = Cpu("x", "x86_64", 8, 16, None, (), None, 8)
    return HardwareProfile("Linux", cpu, Memory(int(memory), int(memory), 0, None), gpus)


def card(total: float, vendor: str = "nvidia", **more: object) -> Gpu:
    return Gpu("Card", vendor, int(total), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("profile", "wheels", "system", "provider", "precision", "said"),
    [
        (machine(), CPU_WHEEL, "Linux", "cpu", "int4", "smallest and fastest"),
        (machine(memory=64e9), CPU_WHEEL, "Linux", "cpu", "int8", "int8 needs at least 32 GB"),
        (machine(card(24e9)), CUDA_WHEEL, "Linux", "cuda", "fp16", "fp16 needs at least 16 GB"),
        (machine(card(10e9)), CUDA_WHEEL, "Windows", "cuda", "int8", "int8 needs at least 8 GB"),
        (machine(card(6e9)), CUDA_WHEEL, "Linux", "cuda", "int4", "less than 8 GB"),
        (machine(card(2e9)), CUDA_WHEEL, "Linux", "cpu", "int4", "less than 4.0 GB"),
        (machine(card(24e9)), CPU_WHEEL, "Linux", "cpu", "int4", "the installed engine does not support CUDA"),
        (
            machine(card(24e9, hidden=True)),
            CUDA_WHEEL,
            "Linux",
            "cpu",
            "int4",
            "CUDA_VISIBLE_DEVICES hides every GPU",
        ),
        (machine(Gpu("Card", "nvidia")), CUDA_WHEEL, "Linux", "cpu", "int4", "the NVIDIA driver does not respond"),
        (machine(card(8e9, "amd")), WINML, "Windows", "dml", "int8", "DirectML"),
        (machine(card(8e9, "amd")), CPU_WHEEL | {"onnxruntime-ep-webgpu": "0.4"}, "Linux", "webgpu", "int8", "plug-in"),
        (machine(card(8e9, "amd")), CPU_WHEEL, "Linux", "cpu", "int4", "the WebGPU plug-in is not installed"),
        (machine(), CPU_WHEEL | {"onnxruntime-ep-webgpu": "0.4"}, "Linux", "cpu", "int4", "every build"),
    ],
)
def test_the_rules_of_choice(
    profile: HardwareProfile, wheels: dict[str, str], system: str, provider: str, precision: str, said: str
) -> None:
    choice = choose_provider(profile, judge_wheels(wheels), system=system)
    assert (choice.provider, choice.precision) == (provider, precision)
    assert any(said in reason for reason in choice.reasons)
    states = provider_states(profile, judge_wheels(wheels), system=system)
    assert [s.name for s in states] == ["cuda", "dml", "webgpu", "cpu"]
    assert all(s.reason for s in states)


def test_missing_cuda_libraries_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert missing_libraries(lambda name: True) == []
    assert missing_libraries(lambda name: "cudnn" not in name) == ["cuDNN 9"]
    (tmp_path / "libcudnn.so.9").touch()
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    assert "cuDNN 9" not in missing_libraries()
    monkeypatch.setattr("lmsupply_cli.hardware.choice.missing_libraries", lambda: ["cuDNN 9"])
    (cuda, *_) = provider_states(machine(card(24e9)), judge_wheels(CUDA_WHEEL), system="Linux")
    assert (cuda.usable, cuda.reason) == (False, "cuDNN 9 not found")
    assert "pip install nvidia-cudnn-cu12" in cuda.fix


NVML = """
#include <string.h>
typedef struct { unsigned long long total, free, used; } memory_t;
int nvmlInit_v2(void) { return STATUS; }
int nvmlShutdown(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 2; return 0; }
int nvmlSystemGetDriverVersion(char *text, unsigned size) { strncpy(text, "550.54.15", size); return 0; }
int nvmlSystemGetCudaDriverVersion(int *version) { *version = 12040; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) { *handle = (void *)(unsigned long)(index + 1); return 0; }
int nvmlDeviceGetName(void *handle, char *text, unsigned size) { strncpy(text, "NVIDIA Stub", size); return 0; }
int nvmlDeviceGetUUID(void *handle, char *text, unsigned size) { strncpy(text, handle == (void *)1 ? "GPU-a" : "GPU-b", size); return 0; }
int nvmlDeviceGetMemoryInfo(void *handle, memory_t *memory) {
    if (handle == (void *)2) return 3;
    memory->total = 85899345920ULL; memory->free = 80000000000ULL; return 0;
}
"""


@pytest.mark.skipif(shutil.which("gcc") is None or sys.platform != "linux", reason="compiles a stand-in for NVML")
@pytest.mark.parametrize("status", [0, 18])
def test_nvml_through_its_c_interface(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    source, library = tmp_path / "nvml.c", tmp_path / "libnvml.so"
    source.write_text(NVML)
    subprocess.run(["gcc", "-shared", "-fPIC", f"-DSTATUS={status}", "-o", str(library), str(source)], check=True)
    monkeypatch.setattr(nvidia, "_LIBRARIES", (str(library),))
    monkeypatch.setattr(nvidia, "run_probe", lambda command: None)
    if status:
        with pytest.raises(ProbeFailed, match="NVML does not start"):
            nvidia.probe(None)
        return
    first, second = nvidia.probe("0")
    assert (first.name, first.total_bytes, first.free_bytes) == ("NVIDIA Stub", 80 * GIB, 80_000_000_000)
    assert (first.driver, first.cuda, first.uuid, first.hidden) == ("550.54.15", "12.4", "GPU-a", False)
    assert (second.total_bytes, second.hidden) == (None, True)


def test_the_fix_for_a_cpu_engine_beside_a_gpu() -> None:
    (cuda, *_) = provider_states(machine(card(24e9)), judge_wheels(CPU_WHEEL), system="Linux")
    assert cuda.fix == "pip uninstall -y onnxruntime-genai onnxruntime && pip install onnxruntime-genai-cuda"


@pytest.mark.parametrize(
    ("versions", "said"),
    [
        ({}, "the engine is not installed"),
        (CPU_WHEEL | CUDA_WHEEL, "onnxruntime-genai and onnxruntime-genai-cuda overwrite each other"),
        (CPU_WHEEL | CUDA_WHEEL, "then pip install onnxruntime-genai-cuda==0.18.0"),
        (CPU_WHEEL | CUDA_WHEEL, "onnxruntime and onnxruntime-gpu overwrite each other"),
        ({"onnxruntime-genai-cuda": "0.18.0", "onnxruntime": "1.32.0"}, "the CUDA engine needs onnxruntime-gpu"),
    ],
)
def test_a_broken_mix_of_wheels(versions: dict[str, str], said: str) -> None:
    assert any(said in note for note in judge_wheels(versions).notes)


def test_a_sound_set_of_wheels() -> None:
    assert judge_wheels(CPU_WHEEL).notes == ()
    assert judge_wheels(CUDA_WHEEL).providers == ("cuda", "cpu")
