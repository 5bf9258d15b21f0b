"""The public face is one list."""

from __future__ import annotations

import subprocess
import sys

import pytest

import lmsupply_cli


def test_the_list_is_sorted_and_every_name_is_there() -> None:
    names = lmsupply_cli.__all__
    assert names == sorted(names)
    for name in names:
        assert getattr(lmsupply_cli, name) is not None
    assert dir(lmsupply_cli) == names


def test_an_unknown_name() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        lmsupply_cli.nope  # noqa: B018


def test_every_error_has_a_code_and_an_exit_code() -> None:
    from lmsupply_cli import errors

    found = {
        kind.__name__: (kind("x").code, kind.exit_code)
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.LmsupplyError)
    }
    tree = errors.__doc__ or ""
    assert found["ModelNotInstalled"] == ("model_not_installed", 3)
    assert found["UsageError"] == ("usage", 2)
    assert found["DoesNotFit"] == ("does_not_fit", 4)
    for name, (_, code) in found.items():
        assert any(name in line and line.split(name)[1].split()[0] == str(code) for line in tree.splitlines()), name


def test_the_package_alone_imports_nothing_and_switches_telemetry_off() -> None:
    program = (
        "import os, sys, lmsupply_cli\n"
        "assert os.environ['ORT_DISABLE_TELEMETRY'] == '1' and os.environ['HF_HUB_DISABLE_TELEMETRY'] == '1'\n"
        "print([m for m in ('typer', 'rich', 'numpy', 'onnxruntime_genai', 'lmsupply_cli.runtime') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_library_never_loads_the_front_ends(guide: object) -> None:
    program = (
        "import sys\nfrom lmsupply_cli import load\n"
        "with load('guide') as model:\n    model.generate('hello', max_tokens=2)\n"
        "print([m for m in ('typer', 'rich', 'prompt_toolkit', 'huggingface_hub') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"
