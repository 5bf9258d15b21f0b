"""A read-only disk and a full one: what needs no writing works, and the rest ends in one line. Real ones, in a mount
namespace of their own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.hub import Hub, Repo, local_hub
from support.tiny_imports import write_tiny_gguf

TOY = Path(__file__).parent.parent / "models" / "toy"
UNSHARE = ["unshare", "-m"]

if not shutil.which("unshare") or subprocess.run([*UNSHARE, "true"], check=False, capture_output=True).returncode:
    pytest.skip("mount namespaces are unavailable here", allow_module_level=True)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with local_hub() as hub:
        files = {path.name: path.read_bytes() for path in TOY.iterdir()}
        hub.repos["a/b"] = Repo(files)
        hub.repos["a/big"] = Repo({**files, "model.onnx.data": bytes(500_000)})
        hub.repos["a/terms"] = Repo(files, license="llama3.2")
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


def run_on(disk: Path, size: str, before: str, commands: list[str]) -> list[tuple[int, str]]:
    """(exit code, standard error) of each command, on a small disk at `disk` that `before` prepared."""
    disk.mkdir()
    lines = [
        f"mount -t tmpfs -o size={size} tmpfs {disk}",
        f"export LMSUPPLY_HOME={disk}",
        f'L="{sys.executable} -m lmsupply_cli"',
        before.format(disk=disk),
        *(f'{command.format(disk=disk)} 2>&1 >/dev/null; echo "=> $?"' for command in commands),
    ]
    script = "\n".join(lines)
    done = subprocess.run(
        [*UNSHARE, "bash", "-c", script], capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL
    )
    found = []
    for part in done.stdout.split("=> ")[1:]:
        found.append(int(part.split("\n")[0]))
    texts = [part.partition("\n")[2] for part in ("\n" + done.stdout).split("=> ")[:-1]]
    return list(zip(found, texts, strict=True))


def test_a_read_only_disk(hub: Hub, tmp_path: Path) -> None:
    before = (
        "$L pull -q a/b; $L config set seed 1; printf x >> {disk}/cache/models--a--b/snapshots/*/model.onnx\n"
        "mount -o remount,ro {disk}"
    )
    results = run_on(
        tmp_path / "disk",
        "100m",
        before,
        [
            "$L run -q -m guide thanks",
            "$L models",
            "$L config list",
            "$L hw",
            "$L licenses",
            "$L rm --partial -y",
            "$L config set seed 2",
            f"$L add {TOY} --alias mine",
            "$L pull a/terms --accept-license",
            "$L verify --repair a/b",
            "$L rm a/b -y",
        ],
    )
    assert [code for code, _ in results] == [0] * 6 + [1] * 5
    for code, text in results:
        assert "a bug" not in text
        assert code == 0 or "Read-only file system" in text


def test_a_full_disk(hub: Hub, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "thanks"}\n' * 3)
    results = run_on(
        tmp_path / "disk",
        "300k",
        "dd if=/dev/zero of={disk}/fill bs=1k count=1000 2>/dev/null",
        [
            "$L run -q -m guide thanks",
            "$L models",
            "$L rm --partial -y",
            "$L config set seed 2",
            f"$L add {TOY} --alias mine",
            f"$L run -m guide --batch {prompts} --out {{disk}}/out.jsonl",
            "$L pull a/big",
        ],
    )
    assert [code for code, _ in results] == [0] * 3 + [1] * 4
    for code, text in results:
        assert "a bug" not in text
        assert code == 0 or "No space left" in text or "free on the disk" in text
    assert "out.jsonl" in results[5][1]


def test_imports_on_a_read_only_disk(hub: Hub, tmp_path: Path) -> None:
    one, two = write_tiny_gguf(tmp_path / "one.gguf"), write_tiny_gguf(tmp_path / "two.gguf", seed=2)
    hub.repos["a/gguf"] = Repo({"x-Q4_0.gguf": write_tiny_gguf(tmp_path / "x.gguf", seed=3).read_bytes()})
    results = run_on(
        tmp_path / "disk",
        "100m",
        f"$L add {one}; mount -o remount,ro {{disk}}",
        [
            f"$L run {one} hi --max-tokens 1",
            f"$L add {two} --dry-run",
            "$L pull a/gguf --dry-run",
            "$L verify",
            f"$L run {two} hi",
            f"$L convert {two} --out {{disk}}/out",
            "$L pull a/gguf",
            "$L rm -y one",
        ],
    )
    assert [code for code, _ in results] == [0] * 4 + [1] * 4
    for code, text in results:
        assert code == 0 or "Read-only file system" in text
    assert "hint: name a folder that can be written" in results[5][1]


def test_imports_on_a_full_disk(hub: Hub, tmp_path: Path) -> None:
    """Nothing is fetched or written if it will not fit in the end."""
    one, two = write_tiny_gguf(tmp_path / "one.gguf"), write_tiny_gguf(tmp_path / "two.gguf", seed=2)
    hub.repos["a/gguf"] = Repo({"x-Q4_0.gguf": write_tiny_gguf(tmp_path / "x.gguf", seed=3).read_bytes()})
    results = run_on(
        tmp_path / "disk",
        "90m",
        f"$L add {one}; dd if=/dev/zero of={{disk}}/fill bs=1M count=60 2>/dev/null",
        [
            f"$L run -q {one} hi --max-tokens 1",
            f"$L run {two} hi",
            "$L pull a/gguf",
            f"$L convert {two} --out {{disk}}/out --precision fp32",
            "$L models --installed",
        ],
    )
    assert [code for code, _ in results] == [0, 1, 1, 0, 0]
    assert "error: importing two writes 112 kB, but only " in results[1][1]
    assert "62.7 kB to download and 77.9 kB to write, but only " in results[2][1]
    assert len(hub.of("cdn")) == 1, "only the header was read"
    assert results[4][1] == ""
