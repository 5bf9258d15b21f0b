"""What every command starts from: the streams, the settings, the store, and the notices so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmsupply_cli import paths
from lmsupply_cli.config.layers import Settings, read_settings, unknown_variables
from lmsupply_cli.config.table import SETTINGS
from lmsupply_cli.events import Notice
from lmsupply_cli.render.flags import as_flags, name_by_place
from lmsupply_cli.render.terminal import Terminal

if TYPE_CHECKING:
    from lmsupply_cli.config.templates import Template


@dataclass
class Context:
    """`notices`: everything that was said with `notice`, for the JSON of an answer."""

    terminal: Terminal
    settings: Settings
    notices: list[Notice] = field(default_factory=list)
    debug: bool = False

    @classmethod
    def of(
        cls,
        flags: Mapping[str, Any] | None = None,
        *,
        preset: str | None = None,
        template: Template | None = None,
        quiet: bool = False,
        skip_bad: bool = False,
        debug: bool = False,
    ) -> Context:
        """`preset`: the name of one; `debug`: bugs are let through; `skip_bad`: settings that cannot be read are left out, for commands that only look. Raises
        SettingsError, UsageError."""
        terminal = Terminal.of_process(quiet=quiet)
        settings = read_settings(
            flags or {},
            preset=_preset(preset) if preset else None,
            template=template.options if template else None,
            environ=terminal.environ,
            path=paths.settings_file(),
            skip_bad=skip_bad,
        )
        context = cls(terminal, settings, debug=debug)
        for name, hint in unknown_variables(terminal.environ).items():
            context.notice(Notice("unknown_variable", f"unknown variable {name}; {hint}"))
        name_by_place({key: settings.value(key).source for key in SETTINGS})
        return context

    @cached_property
    def root(self) -> Path:
        """The store."""
        return paths.store_root(self.settings.get("cache_dir"))

    def notice(self, notice: Notice) -> None:
        """Say it, and record it."""
        self.notices.append(notice)
        self.terminal.notice(notice)


def notices_object(notices: Sequence[Notice]) -> list[dict[str, str]]:
    """Notices in JSON."""
    return [{"code": notice.code, "text": as_flags(notice.text)} for notice in notices]


def _preset(name: str) -> Mapping[str, Any]:
    from lmsupply_cli.engine.options import preset_values

    return preset_values(name)
