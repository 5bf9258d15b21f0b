"""`lmsupply chat` with a model that says what it is told: `python fake_chat.py ANSWERS OPTIONS…`, where ANSWERS is a JSON
list of the answers."""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from support.scripted import fake

from lmsupply_cli.cli.app import main
from lmsupply_cli.cli.chat import start


def run() -> None:
    answers = json.loads(sys.argv[1])
    generator = fake(*answers, ref="guide", context=8000)
    start.prepare = lambda *_, **__: type("Found", (), {"plan": lambda *_, **__: None})()  # type: ignore[assignment]
    start.open_generator = lambda *_, **__: generator  # type: ignore[assignment]
    sys.exit(main(["chat", *sys.argv[2:]]))


if __name__ == "__main__":
    run()
