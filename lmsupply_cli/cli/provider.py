"""Which provider `auto` comes to on this machine, said where it is not what the hardware would allow."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING

from lmsupply_cli import paths
from lmsupply_cli.catalogue.entry import GUIDE_REF
from lmsupply_cli.config.layers import Settings
from lmsupply_cli.files import is_file

if TYPE_CHECKING:
    from lmsupply_cli.engine.folder import ModelFolder
    from lmsupply_cli.events import Notice
    from lmsupply_cli.hardware.choice import ProviderState
    from lmsupply_cli.loading.recommend import MachineChoice
    from lmsupply_cli.store.locate import LocatedModel


def load_provider(
    settings: Settings, model: LocatedModel, folder: ModelFolder, machine: Callable[[], MachineChoice] | None = None
) -> tuple[str, list[Notice]]:
    """The provider to load with. A folder that declares one, and the guide, are taken as they are; else the `machine` is
    asked, by default this one."""
    wanted: str = settings.get("provider")
    declared = folder.decoder.get("session_options", {}).get("provider_options")
    if wanted != "auto" or model.ref == GUIDE_REF or declared:
        return wanted, []
    from lmsupply_cli.hub.variant import DEVICES, tokens_of
    from lmsupply_cli.loading.recommend import machine_choice

    found = (machine or machine_choice)()
    devices = {DEVICES[token] for token in tokens_of(model.variant) if token in DEVICES}
    if found.choice.provider != "cpu" and devices & {"gpu", found.choice.provider}:
        return found.choice.provider, []
    better = itertools.takewhile(lambda state: state.name != found.choice.provider, found.states)
    blocked = next((state for state in better if state.fix), None)
    if blocked is None or not _first_time(blocked):
        return "auto", []
    from lmsupply_cli.events import Notice

    text = f"{blocked.name} is not used: {blocked.reason}; running on cpu. To fix it: {blocked.fix}"
    return "auto", [Notice("provider_fallback", text)]


def _first_time(state: ProviderState) -> bool:
    """A fall-back is said once for each reason; where that cannot be remembered, each time."""
    import zlib

    mark = paths.state_dir() / "said" / f"{state.name}-{zlib.crc32(state.reason.encode()):08x}"
    if is_file(mark):
        return False
    with contextlib.suppress(OSError):
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch(mode=0o600)
    return True
