"""What `auto` comes to, as values: the machine is injected."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmsupply_cli.catalogue.entry import UNKNOWN_LICENSE
from lmsupply_cli.cli.provider import load_provider
from lmsupply_cli.config.layers import read_settings
from lmsupply_cli.engine.folder import ModelFolder
from lmsupply_cli.hardware.choice import choose_provider, provider_states
from lmsupply_cli.hardware.profile import Cpu, Gpu, HardwareProfile, Memory
from lmsupply_cli.hardware.wheels import judge_wheels
from lmsupply_cli.loading.recommend import MachineChoice, machine_wish
from lmsupply_cli.store.locate import LocatedModel

CPU_WHEEL = {"onnxruntime-genai": "0.18.0", "onnxruntime": "1.32.0"}
CUDA_WHEEL = {"onnxruntime-genai-cuda": "0.18.0", "onnxruntime-gpu": "1.32.0"}
CARD = Gpu("Card", "nvidia", 24 * 10**9)


@pytest.fixture(autouse=True)
def cuda_libraries_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lmsupply_cli.hardware.choice.missing_libraries", list)


def machine(wheels: dict[str, str], *gpus: Gpu) -> MachineChoice:
    cpu = Cpu("x", "x86_64", 8, 16, None, (), None, 8)
    profile, judged = HardwareProfile("Linux", cpu, Memory(16 * 10**9, 16 * 10**9, 0, None), gpus), judge_wheels(wheels)
    return MachineChoice(
        profile,
        judged,
        choose_provider(profile, judged, system="Linux"),
        tuple(provider_states(profile, judged, system="Linux")),
    )


def located(variant: str = "", ref: str = "x") -> LocatedModel:
    return LocatedModel(ref, Path(), UNKNOWN_LICENSE, "a/b", "c", variant)


def folder(*declared: str) -> ModelFolder:
    options = [{name: {}} for name in declared]
    return ModelFolder(Path(), {"model": {"decoder": {"session_options": {"provider_options": options}}}})


@pytest.mark.parametrize(
    ("wheels", "gpus", "flags", "wishes"),
    [
        (CPU_WHEEL, (), {}, ("cpu", "int4")),
        (CUDA_WHEEL, (CARD,), {}, ("cuda", "fp16")),
        (CUDA_WHEEL, (CARD,), {"precision": "int4"}, ("cuda", "int4")),
        (CUDA_WHEEL, (CARD,), {"provider": "cpu"}, ("cpu", "auto")),
        (CPU_WHEEL, (CARD,), {}, ("cpu", "int4")),
    ],
)
def test_what_a_pull_wishes_for(
    wheels: dict[str, str], gpus: tuple[Gpu, ...], flags: dict[str, str], wishes: tuple[str, str]
) -> None:
    wish = machine_wish(**flags, machine=lambda: machine(wheels, *gpus))
    assert (wish.provider, wish.precision) == wishes
    assert wish.on_cpu == (flags.get("provider") == "cpu")


def test_a_gpu_folder_without_a_declared_provider_gets_the_machines() -> None:
    settings = read_settings(environ={})
    on_gpu = lambda: machine(CUDA_WHEEL, CARD)  # noqa: E731
    assert load_provider(settings, located("gpu/gpu-int4-awq-block-128"), folder(), on_gpu) == ("cuda", [])
    assert load_provider(settings, located("cpu/cpu-int4"), folder(), on_gpu) == ("auto", [])
    assert load_provider(settings, located("gpu/gpu-int4"), folder("cuda"), on_gpu) == ("auto", [])
    assert load_provider(read_settings({"provider": "cpu"}, environ={}), located("gpu/x"), folder(), on_gpu) == (
        "cpu",
        [],
    )


def test_a_fall_back_is_said_once() -> None:
    settings, with_card = read_settings(environ={}), lambda: machine(CPU_WHEEL, CARD)
    assert load_provider(settings, located(ref="guide"), folder(), with_card) == ("auto", [])
    provider, (notice,) = load_provider(settings, located("cpu/cpu-int4"), folder(), with_card)
    assert provider == "auto"
    assert notice.text == (
        "cuda is not used: Card was found, but the installed engine does not support CUDA; running on cpu. "
        "To fix it: pip uninstall -y onnxruntime-genai onnxruntime && pip install onnxruntime-genai-cuda"
    )
    assert load_provider(settings, located("cpu/cpu-int4"), folder(), with_card) == ("auto", [])
    assert load_provider(settings, located(), folder(), lambda: machine(CPU_WHEEL)) == ("auto", [])
