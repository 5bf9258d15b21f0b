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
import sys
from pathlib import Path

from lmsupply_cli.errors import FileError, SettingsError, UsageError
from lmsupply_cli.files import NO_HOME, expanded, is_file, read_json, read_text

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


def ollama_models() -> tuple[Path, ...]:
    """Where Ollama keeps its models: OLLAMA_MODELS > ~/.ollama/models, and the home of its service on Linux."""
    if named := _others("OLLAMA_MODELS"):
        return (named,)
    return _home() / ".ollama" / "models", Path("/usr/share/ollama/.ollama/models")


def lm_studio_home() -> Path:
    """Where LM Studio keeps its settings and, by default, its models: what ~/.lmstudio-home-pointer names > ~/.lmstudio."""
    try:
        named = read_text(_home() / ".lmstudio-home-pointer", limit_bytes=4096).strip()
    except FileError:
        named = ""
    return Path(named) if named and Path(named).is_absolute() else _home() / ".lmstudio"


def lm_studio_models() -> tuple[Path, ...]:
    """Where LM Studio keeps its models: the folder of its settings, `models` in its home, and that of older versions."""
    home = lm_studio_home()
    try:
        settings = read_json(home / "settings.json", limit_bytes=1_000_000)
    except FileError:
        settings = {}
    named = settings.get("downloadsFolder") if isinstance(settings, dict) else None
    own = (Path(named),) if isinstance(named, str) and "\0" not in named and Path(named).is_absolute() else ()
    return *own, home / "models", _home() / ".cache" / "lm-studio" / "models"


def llama_cpp_cache() -> Path:
    """Where llama.cpp keeps what it downloads: LLAMA_CACHE > the platform's cache folder."""
    if named := _others("LLAMA_CACHE"):
        return named
    if sys.platform == "darwin":
        return _home() / "Library" / "Caches" / "llama.cpp"
    if sys.platform == "win32":
        return expanded(os.environ.get("LOCALAPPDATA", "") or _home()) / "llama.cpp"
    xdg = expanded(os.environ.get("XDG_CACHE_HOME", ""))
    return (xdg if xdg.is_absolute() else _home() / ".cache") / "llama.cpp"


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


def _others(name: str) -> Path | None:
    """As `_variable`, for a variable of another program: what cannot be a folder is a folder that is not there."""
    try:
        return _variable(name)
    except SettingsError:
        return NO_HOME


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
