"""Where lmsupply keeps its things; the only reader of the variables that move them.

config   LMSUPPLY_HOME/config, else the platform's config folder
state    LMSUPPLY_HOME/state,  else the platform's state folder
store    --cache-dir > LMSUPPLY_CACHE_DIR > LMSUPPLY_HOME/cache > HF_HUB_CACHE > HF_HOME/hub
         > the platform's cache folder
"""

from __future__ import annotations

import os
from pathlib import Path

APP = "lmsupply"


def _variable(name: str) -> Path | None:
    value = os.environ.get(name)
    return Path(value).expanduser() if value else None


def config_dir() -> Path:
    import platformdirs

    home = _variable("LMSUPPLY_HOME")
    return home / "config" if home else Path(platformdirs.user_config_dir(APP, appauthor=False))


def state_dir() -> Path:
    import platformdirs

    home = _variable("LMSUPPLY_HOME")
    return home / "state" if home else Path(platformdirs.user_state_dir(APP, appauthor=False))


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
    import platformdirs

    if cache_dir:
        return Path(cache_dir).expanduser()
    home, hf_home = _variable("LMSUPPLY_HOME"), _variable("HF_HOME")
    return (
        _variable("LMSUPPLY_CACHE_DIR")
        or (home / "cache" if home else None)
        or _variable("HF_HUB_CACHE")
        or (hf_home / "hub" if hf_home else None)
        or Path(platformdirs.user_cache_dir(APP, appauthor=False)) / "hub"
    )


def hugging_face_cache() -> Path:
    """Where other tools keep Hub models: HF_HUB_CACHE > HF_HOME/hub > XDG_CACHE_HOME or ~/.cache/huggingface/hub."""
    hf_home, xdg = _variable("HF_HOME"), _variable("XDG_CACHE_HOME")
    return _variable("HF_HUB_CACHE") or (hf_home or (xdg or Path.home() / ".cache") / "huggingface") / "hub"


def foundry_cache() -> Path | None:
    """Where Foundry Local keeps its models; None without a home folder."""
    try:
        return Path.home() / ".foundry" / "cache" / "models"
    except RuntimeError:
        return None


def builtin_model(name: str) -> Path:
    """The folder of a model that ships in the package."""
    return Path(__file__).parent / "builtin" / name
