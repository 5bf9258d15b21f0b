"""Names and texts of a Hub, a folder or a record: on a terminal nothing in them acts, and no line of ours is forged."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cli import lmsupply
from support.hub import Hub, Repo, local_hub
from support.terminal import Terminal

TOY = Path(__file__).parent.parent / "models" / "toy"
STEERING = "\x1b]0;PWN\x07\x9b31m\u202eX\x7f"
EVIL = f"{STEERING}\nnote: all is well"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with local_hub() as hub:
        files = {path.name: path.read_bytes() for path in TOY.iterdir()}
        card = {"license": "other", "license_name": EVIL, "license_link": EVIL}
        hub.repos["a/b"] = Repo(dict(files), info={"cardData": card})
        hub.repos["a/c"] = Repo({**files, "LICENSE": STEERING.encode()})
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


def acts(output: bytes) -> list[bytes]:
    """What in the output would steer a terminal, or pretends to be a line of ours."""
    traces = [b"\x1b]0;", b"\x07", b"\x9b31m", "\x9b".encode(), "\u202e".encode(), b"\x7f", b"\nnote: all is well"]
    return [trace for trace in traces if trace in output]


def test_what_a_hub_says_does_nothing_to_the_terminal(hub: Hub) -> None:
    for arguments in (
        ("show", "a/b"),
        ("pull", "--dry-run", "a/b"),
        ("pull", "a/b", "--accept-license"),
        ("models", "--installed"),
        ("licenses",),
        ("pull", "a/c"),
        ("show", "--license", "a/c"),
        ("rm", "a/b", "-y"),
    ):
        terminal = Terminal(*arguments, columns=100)
        assert terminal.end() == 0
        assert acts(terminal.raw) == [], arguments


def test_nor_does_the_name_of_a_folder(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(TOY, tmp_path / f"x{STEERING}"))
    for arguments in (
        ("show", str(folder)),
        ("run", "-m", str(folder), "--stats", "--max-tokens", "2", "hi"),
        ("add", str(folder), "--alias", "evil"),
        ("models", "--installed"),
        ("verify", "evil"),
        ("rm", "evil", "-y"),
    ):
        terminal = Terminal(*arguments, columns=100)
        assert terminal.end() == 0
        assert acts(terminal.raw) == [], arguments


def test_nor_what_a_user_typed_by_mistake() -> None:
    terminal = Terminal("run", "-m", EVIL, "hi")
    assert terminal.end() == 1
    assert acts(terminal.raw) == []


def test_names_are_neutral_in_pipes_and_json_too(hub: Hub) -> None:
    for arguments in (("show", "a/b"), ("show", "a/b", "--json"), ("pull", "--dry-run", "a/b", "--json")):
        result = lmsupply(*arguments)
        assert result.code == 0
        assert acts((result.out + result.err).encode()) == []
