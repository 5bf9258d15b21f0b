"""Write the tables of settings and of the chat's commands into README.md; a test fails when they are stale.

python tools/make_tables.py
"""

from __future__ import annotations

import re
from pathlib import Path

from lmsupply_cli.config.table import SETTINGS, Setting
from lmsupply_cli.repl.commands import help_rows

README = Path(__file__).resolve().parent.parent / "README.md"
BLOCK = re.compile(r"(<!-- (settings|commands): [^>]*-->\n).*?(<!-- end -->)", re.DOTALL)


def settings_table() -> str:
    rows = [row(setting) for setting in SETTINGS.values()]
    return "| setting and variable | default | what it is |\n|---|---|---|\n" + "".join(rows)


def row(setting: Setting) -> str:
    default = setting.default
    if isinstance(default, bool):
        default = "on" if default else "off"
    default = "" if default in (None, ()) else default
    choices = f" ({', '.join(setting.choices)})" if setting.choices else ""
    return f"| `{setting.key}` `{setting.env}` | {default} | {setting.help}{choices} |\n"


def commands_table() -> str:
    rows = ["| `{}` | {} |\n".format(*(cell.replace("|", "\\|") for cell in row)) for row in help_rows()]
    return "| command | what it does |\n|---|---|\n" + "".join(rows)


def with_tables(text: str) -> str:
    tables = {"settings": settings_table, "commands": commands_table}
    return BLOCK.sub(lambda match: match[1] + tables[match[2]]() + match[3], text)


if __name__ == "__main__":
    README.write_text(with_tables(README.read_text(encoding="utf-8")), encoding="utf-8")
