"""Write the table of settings into README.md; a test fails when it is stale.

python tools/make_tables.py
"""

from __future__ import annotations

import re
from pathlib import Path

from lmsupply_cli.config.table import SETTINGS, Setting

README = Path(__file__).resolve().parent.parent / "README.md"
BLOCK = re.compile(r"(<!-- settings: [^>]*-->\n).*?(<!-- end -->)", re.DOTALL)


def settings_table() -> str:
    rows = [row(setting) for setting in SETTINGS.values()]
    return "| setting and variable | default | what it is |\n|---|---|---|\n" + "".join(rows)


def row(setting: Setting) -> str:
    default = {None: "", (): "", True: "on", False: "off"}.get(setting.default, setting.default)
    choices = f" ({', '.join(setting.choices)})" if setting.choices else ""
    waits = f" *No effect yet: waits for {setting.awaits}.*" if setting.awaits else ""
    return f"| `{setting.key}` `{setting.env}` | {default} | {setting.help}{choices}{waits} |\n"


def with_table(text: str) -> str:
    return BLOCK.sub(lambda match: match[1] + settings_table() + match[2], text)


if __name__ == "__main__":
    README.write_text(with_table(README.read_text(encoding="utf-8")), encoding="utf-8")
