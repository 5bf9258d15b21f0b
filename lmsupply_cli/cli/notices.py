"""What the user should know before an answer."""

from __future__ import annotations

from lmsupply_cli.config.layers import Settings
from lmsupply_cli.config.table import SETTINGS
from lmsupply_cli.events import Notice


def unread_notices(settings: Settings) -> list[Notice]:
    """Settings that were given and do nothing in this version: never silently."""
    return [
        Notice("setting_has_no_effect", f"the setting {key} has no effect yet: it waits for {SETTINGS[key].awaits}")
        for key in settings.unread()
    ]
