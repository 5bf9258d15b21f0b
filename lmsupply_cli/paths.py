"""Where lmsupply keeps its things; the only reader of the variables that move them.

config   LMSUPPLY_HOME/config, else the platform's config folder
state    LMSUPPLY_HOME/state,  else the platform's state folder
store    --cache-dir > LMSUPPLY_CACHE_DIR > LMSUPPLY_HOME/cache > HF_HUB_CACHE > HF_HOME/hub
         > the platform's cache folder

Where no home folder is known, the platform's folders are `NO_HOME`: reading finds nothing there, and what must be
written ends with a line that says so. A value that cannot be a folder raises SettingsError, which names the variable.
"""

from __future__ import annotations

import os
from pathlib import Path

from lmsupply_cli.errors import SettingsError, UsageError
from lmsupply_cli.files import NO_HOME, expanded, is_file

APP = "lmsupply"


def config_dir() -> Path:
    home = _variable("LMSUPPLY_HOME")
    return home / "config" if home else _platform("user_config_dir")


def state_dir() -> Path:
    home = _variable("LMSUPPLY_HOME")
    return home / "state" if home else _platform("user_state_dir")


def sessions_dir() -> Path:
    """Where chats are kept."""
    return state_dir() / "sessions"


def history_file() -> Path:
    """The lines typed in chats."""
    return state_dir() / "history"


def settings_file() -> Path:
    return config_dir() / "config.toml"


def store_root(cache_dir: Path | str | None = None) -> Path:
    """The store's root; `cache_dir` is what a flag or the settings file says."""
    if cache_dir:
        return _folder(os.fspath(cache_dir), "cache_dir")
    home, hf_home = _variable("LMSUPPLY_HOME"), _variable("HF_HOME")
    return (
        _variable("LMSUPPLY_CACHE_DIR")
        or (home / "cache" if home else None)
        or _variable("HF_HUB_CACHE")
        or (hf_home / "hub" if hf_home else None)
        or _platform("user_cache_dir") / "hub"
    )


def hugging_face_cache() -> Path:
    """Where other tools keep Hub models: HF_HUB_CACHE > HF_HOME/hub > XDG_CACHE_HOME or ~/.cache/huggingface/hub.

    What cannot be found is a folder that is not there: it is nothing of ours.
    """
    xdg = expanded(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        hf_home, hub = _variable("HF_HOME"), _variable("HF_HUB_CACHE")
    except SettingsError:
        return NO_HOME
    return hub or (hf_home or (xdg if xdg.is_absolute() else _home() / ".cache") / "huggingface") / "hub"


def foundry_cache() -> Path | None:
    """Where Foundry Local keeps its models; None without a home folder."""
    try:
        return Path.home() / ".foundry" / "cache" / "models"
    except RuntimeError:
        return None


def builtin_model(name: str) -> Path:
    """The folder of a model that ships in the package."""
    return Path(__file__).parent / "builtin" / name


def check_folder(value: str) -> Path:
    """`value` as an absolute path. Raises UsageError for what cannot be a folder."""
    path = expanded(value)
    if "\0" in value:
        raise UsageError(f"not a folder: {value!r}")
    if value.startswith("~") and path == Path(value):
        raise UsageError(f"the home folder of {value!r} is not known", hint="write the whole path, without ~")
    try:
        if is_file(path):
            raise UsageError(f"{value} is a file, not a folder")
        return path.absolute()
    except OSError as error:
        raise UsageError(f"{value!r} is in the current folder, which is gone", hint="write the whole path") from error


def _variable(name: str) -> Path | None:
    value = os.environ.get(name, "")
    return _folder(value, name) if value.strip() else None


def _folder(value: str, name: str) -> Path:
    """Raises SettingsError that names where the value comes from."""
    try:
        return check_folder(value)
    except UsageError as error:
        raise SettingsError(f"{name}: {error.message}", hint=error.hint) from error


def _platform(kind: str) -> Path:
    """A folder of the platform, by the name of its function in platformdirs."""
    import platformdirs

    try:
        path = Path(getattr(platformdirs, kind)(APP, appauthor=False))
    except (RuntimeError, OSError):
        return NO_HOME
    return path if path.is_absolute() else NO_HOME


def _home() -> Path:
    home = expanded("~")
    return home if home.is_absolute() else NO_HOME
