"""One row in providers.py is all that a new execution provider costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lmsupply_cli.providers import (
    CPU,
    OTHER_DEVICES,
    PROVIDERS,
    Provider,
    device_declared,
    folder_devices,
    provider_declared,
)

ROW = """
import importlib.util, pathlib, sys, types

name = "lmsupply_cli.providers"
path = pathlib.Path(importlib.util.find_spec(name).origin)
table = "PROVIDERS: tuple[Provider, ...] = ("
row = '''
    Provider(
        name="made-up", label="Made-up", engine_name="MadeUp", runs=("made-up", GPU, ANY, "cpu"),
        plugin=Plugin("onnxruntime-ep-made-up", "no_such_module", "m"), folder_words=frozenset(("madeup", "openvino")),
        vendors=frozenset(("intel",)), precisions=((4 * 10**9, "bf16"), (0, "int4")), options=frozenset(("tiles",)),
        fix="pip install made-up",
    ),'''
before, after = path.read_text(encoding="utf-8").split(table)
sys.modules[name] = types.ModuleType(name)
exec(before + table + row + after, vars(sys.modules[name]))
"""

USES = """
from lmsupply_cli.config.table import SETTINGS
from lmsupply_cli.config.values import check_value

assert check_value("provider", "made-up") == "made-up"
assert "made-up" in SETTINGS["provider"].choices

from pathlib import Path
from lmsupply_cli.engine.folder import ModelFolder
from lmsupply_cli.engine.runnable import provider_obstacles

def config(**options):
    rows = [{"MadeUp": options}]
    return {"model": {"decoder": {"session_options": {"provider_options": rows}}}}

assert ModelFolder(Path(), config()).provider == "made-up"
assert list(provider_obstacles(config(tiles="4"))) == []
assert [o.text for o in provider_obstacles(config(other="4"))] != []

from lmsupply_cli.hub.resolve import VariantWish, resolve
from lmsupply_cli.hub.tree import RepoFile, RepoTree
from lmsupply_cli.hub.variant import find_variants

names = ("cpu/cpu-int4", "openvino/madeup-bf16", "cuda/cuda-fp16")
files = {f"{name}/genai_config.json": RepoFile(f"{name}/genai_config.json", 1) for name in names}
variants = find_variants(RepoTree("a/b", "", files))
assert [v.device for v in variants] == ["cpu", "cuda", "made-up"], variants
assert resolve(variants, VariantWish("made-up")).chosen.folder == "openvino/madeup-bf16"
assert resolve(variants, VariantWish("cpu")).chosen.folder == "cpu/cpu-int4"

from lmsupply_cli.hardware.choice import choose_provider, provider_states
from lmsupply_cli.hardware.profile import Cpu, Gpu, HardwareProfile, Memory
from lmsupply_cli.hardware.wheels import judge_wheels
from lmsupply_cli.memory.budget import device_bytes

cpu = Cpu("x", "x86_64", 8, 16, None, (), None, 8)
machine = HardwareProfile("Linux", cpu, Memory(10**10, 10**10, 0, None), (Gpu("Arc", "intel", 8 * 10**9),))
engine = {"onnxruntime-genai": "0.18.0", "onnxruntime": "1.32.0"}
state = provider_states(machine, judge_wheels(engine), system="Linux")[0]
assert (state.name, state.usable, state.fix) == ("made-up", False, "pip install made-up"), state
choice = choose_provider(machine, judge_wheels(engine | {"onnxruntime-ep-made-up": "1"}), system="Linux")
assert (choice.provider, choice.precision) == ("made-up", "bf16"), choice
assert device_bytes("made-up", machine) == 8 * 10**9

from lmsupply_cli.engine.genai_errors import load_error

error = load_error(RuntimeError("MadeUp execution provider is not supported in this build"), Path(), provider="made-up")
assert "found no device" in error.message

from lmsupply_cli.cli.hw.machine import machine_json, read_machine

assert machine_json(read_machine(Path()))["providers"][0]["name"] == "made-up"
"""


def test_a_row_is_enough_for_settings_folders_variants_and_the_machine() -> None:
    done = subprocess.run([sys.executable, "-c", ROW + USES], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_cpu_is_the_last_resort() -> None:
    assert PROVIDERS[-1] is CPU
    assert not CPU.needs_gpu


@pytest.mark.parametrize("row", PROVIDERS, ids=lambda row: row.name)
def test_every_row_is_whole(row: Provider) -> None:
    assert row.runs[0] == row.name
    assert row.precisions[-1][0] == 0
    assert row.fix
    assert provider_declared(row.declared) is row


def test_a_device_is_known_by_its_words_and_by_what_a_config_declares() -> None:
    assert {word: device for word, device in folder_devices().items() if device == "npu"}.keys() == OTHER_DEVICES[
        0
    ].folder_words
    assert device_declared("openvino") == "npu"
    assert device_declared("webgpu") == "webgpu"
    assert device_declared("new") == "new"
    assert device_declared("") == ""
