"""`lmsupply chat --mcp` and `--tool` in a pseudo-terminal, with a model that says what it is told."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

if sys.platform == "win32":
    pytest.skip("needs a pseudo-terminal", allow_module_level=True)

from support.cli import lmsupply
from support.terminal import Terminal

SUPPORT = Path(__file__).parent.parent / "support"
SOURCE = '''
def weather(city: str) -> str:
    """Forecast the weather."""
    return f"sunny in {city}"
'''


WEB = '{"mcpServers": {"web": {"url": "https://example.com/mcp"}}}'


def call(name: str, **values: Any) -> str:
    return json.dumps({"name": name, "arguments": values})


def config(folder: Path, *arguments: str, **more: Any) -> str:
    row = more or {"command": sys.executable, "args": [str(SUPPORT / "mcp_server.py"), *arguments]}
    path = folder / "servers.json"
    path.write_text(json.dumps({"mcpServers": {"things": row}}))
    return str(path)


class Chat(Terminal):
    def __init__(self, answers: list[str], *arguments: str, columns: int = 80) -> None:
        program = [sys.executable, str(SUPPORT / "fake_chat.py"), json.dumps(answers)]
        super().__init__(*arguments, program=program, columns=columns, rows=40)
        self.prompts = 0
        self.next_prompt()

    def next_prompt(self) -> str:
        self.prompts += 1
        return self.read(lambda text: text.count(">>>") >= self.prompts)

    def question(self, count: int) -> None:
        self.read(lambda text: " ".join(text.split()).count("[n]o:") >= count)


def test_a_server_of_tools(tmp_path: Path) -> None:
    pytest.importorskip("mcp.client.client")
    marker = tmp_path / "waits"
    answers = [f"{call('add', a=1, b=2)}\n{call('die')}", "It is 3.", call("wait", path=str(marker)), "Without it."]
    chat = Chat(answers, "--mcp", config(tmp_path), "--allow-tool", "wait", columns=60)
    assert "8 tools: " in chat.text
    chat.send("what is 1+2?\r")
    chat.question(1)
    chat.send("y\r")
    chat.question(2)
    chat.send("y\r")
    said = " ".join(chat.next_prompt().split())
    assert 'call: add of things {"a": 1, "b": 2}' in said
    assert "result: 3" in said
    assert "result: error: the MCP server things has ended; it wrote: last words" in said
    assert "It is 3." in said
    chat.send("please wait\r")
    end = time.monotonic() + 60
    while not marker.exists():
        chat.read(lambda _: True)
        assert time.monotonic() < end
        time.sleep(0.02)
    chat.send("\x03")
    chat.next_prompt()
    assert "(call cancelled; /continue lets the model continue without" in chat.text
    chat.send("/continue\r")
    assert "Without it." in chat.next_prompt()
    chat.send("\x04")
    assert chat.end() == 0


def test_a_server_by_its_address_and_one_that_is_missing(tmp_path: Path) -> None:
    pytest.importorskip("mcp.client.client")
    command = [sys.executable, str(SUPPORT / "mcp_server.py"), "http"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        url = f"http://127.0.0.1:{server.stdout.readline().strip()}/mcp"
        missing = json.dumps({"mcpServers": {"gone": {"command": "no-such-program-here", "alwaysAllow": []}}})
        paths = ["--mcp", config(tmp_path, url=url, type="http"), "--mcp", missing]
        chat = Chat([call("add", a=20, b=3), "It is 23."], *paths, "--allow-tool", "add", columns=100)
        assert "the MCP server gone: alwaysAllow has no effect here" in chat.text
        assert "the MCP server gone cannot be started: no-such-program-here: No such file or directory" in chat.text
        chat.send("what is 20+3?\r")
        said = chat.next_prompt()
        assert "result: 23" in said
        assert "It is 23." in said
        chat.send("\x04")
        assert chat.end() == 0
        server.terminate()


def test_a_python_function_in_a_narrow_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_tools_here.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    chat = Chat(
        [call("weather", city="Oslo and all of its surroundings"), "Sunny."],
        "--tool",
        "my_tools_here:weather",
        columns=36,
    )
    chat.send("weather?\r")
    chat.question(1)
    chat.send("y\r")
    said = " ".join(chat.next_prompt().split())
    assert '"city": "Oslo and all of its surroundings"' in said
    assert re.search(r"result: sunny in Oslo and all of\s+its", said)
    assert "Sunny." in said
    chat.send("\x04")
    assert chat.end() == 0


def test_what_was_typed_ahead_confirms_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = SOURCE + "\n\ndef slow() -> str:\n    import time, pathlib\n    pathlib.Path('slow').touch()\n"
    source += "    while not pathlib.Path('go').exists():\n        time.sleep(0.01)\n    return 'done'\n"
    (tmp_path / "my_tools_here.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    answers = [f"{call('slow')}\n{call('weather', city='Oslo')}", "Fine."]
    tools = ["--tool", "my_tools_here:weather", "--tool", "my_tools_here:slow", "--allow-tool", "slow"]
    chat = Chat(answers, *tools)
    chat.send("weather?\r")
    end = time.monotonic() + 60
    while not (tmp_path / "slow").exists():
        assert time.monotonic() < end
        time.sleep(0.01)
    chat.send("y\ry\r")
    (tmp_path / "go").touch()
    chat.question(1)
    chat.send("n\r")
    assert "sunny" not in chat.next_prompt()
    chat.send("\x04")
    assert chat.end() == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--allow-tool", "x"], "error: --allow-tool has no effect without --mcp or --tool"),
        (["--tool", "no_such_module_here:x"], "error: there is no module 'no_such_module_here'"),
        (["--tool", "json:loads"], "has no type hint"),
        (["--mcp", "absent.json"], "absent.json"),
        (["--offline", "--mcp", WEB], "the MCP server web is at https://example.com/mcp, and --offline is on"),
        (["--mcp", '{"mcpServers": {"a": {"command": "x", "url": "https://x"}}}'], "needs a `command` or a `url`"),
    ],
)
def test_what_is_wrong_ends_the_command(arguments: list[str], message: str) -> None:
    terminal = Terminal("chat", "guide", *arguments, columns=200)
    assert terminal.end() == 2
    assert message in terminal.text


def test_an_unknown_tool_that_is_allowed_ends_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_tools_here.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    terminal = Terminal("chat", "guide", "--tool", "my_tools_here:weather", "--allow-tool", "wether", columns=200)
    assert terminal.end() == 2
    assert "there is no tool 'wether'" in terminal.text
    assert "did you mean weather?" in terminal.text


def test_without_the_library_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "mcp.py").write_text("raise ImportError('no mcp here')")
    terminal = Terminal("chat", "guide", "--mcp", config(tmp_path), columns=200, PYTHONPATH=str(tmp_path))
    assert terminal.end() == 2
    assert "MCP servers need the package mcp" in terminal.text
    assert "pip install 'lmsupply[mcp]'" in terminal.text


def test_the_help_names_the_options() -> None:
    shown = lmsupply("chat", "--help", COLUMNS="100").out
    for option in ("--mcp CONFIG", "--tool MODULE:FUNCTION", "--allow-tool NAME"):
        assert option in shown


def test_tab_offers_files_for_a_config() -> None:
    from lmsupply_cli.cli.complete import candidates

    assert candidates(["chat", "--mcp", ""]) is None
    assert candidates(["chat", "--allow-tool", ""]) == []
    assert [word for word, _ in candidates(["chat", "--al"]) or []] == ["--allow-tool"]
