"""The only door to the Hugging Face Hub. Its client's errors become ours here, with the host named."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from lmsupply_cli.errors import HubError, LicenceNotAccepted, LmsupplyError, ModelNotFound
from lmsupply_cli.hub.tree import RepoTree

_TIMEOUT_S = 30.0
T = TypeVar("T")


def import_client() -> Any:
    """Telemetry off, real files instead of links: both are read when the client is imported."""
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["HF_HUB_DISABLE_SYMLINKS"] = "1"
    import huggingface_hub
    import huggingface_hub.constants
    import huggingface_hub.errors
    import huggingface_hub.utils

    return huggingface_hub


def fetch_tree(repo: str, revision: str | None = None) -> RepoTree:
    """One request. Raises HubError, ModelNotFound, LicenceNotAccepted."""
    hub = import_client()

    def ask() -> RepoTree:
        info = hub.HfApi().model_info(repo, revision=revision, files_metadata=True, timeout=_TIMEOUT_S)
        files = {sibling.rfilename: sibling.size or 0 for sibling in info.siblings or []}
        card = getattr(info, "card_data", None)
        licence = (card.get("license_name") or card.get("license") or "") if card else ""
        return RepoTree(repo, info.sha, files, licence if isinstance(licence, str) else "", bool(info.gated))

    return _translated(ask, repo)


def fetch_files(repo: str, commit: str, paths: Sequence[str], root: Path, *, progress: bool) -> Path:
    """Fetch `paths` into the Hugging Face layout under `root`; the folder that holds them.

    `progress` draws the client's bars on stderr. Raises HubError, ModelNotFound, LicenceNotAccepted.
    """
    hub = import_client()
    bars = hub.utils.enable_progress_bars if progress else hub.utils.disable_progress_bars
    bars()

    def fetch() -> Path:
        return Path(hub.snapshot_download(repo, revision=commit, allow_patterns=list(paths), cache_dir=root))

    return _translated(fetch, repo)


def _translated(act: Callable[[], T], repo: str) -> T:
    hub = import_client()
    import httpx2

    errors, host = hub.errors, hub.constants.ENDPOINT
    try:
        return act()
    except errors.GatedRepoError as error:
        raise LicenceNotAccepted(
            f"{repo} is gated: the Hub wants its terms accepted",
            hint=f"accept them at {host}/{repo}, then set HF_TOKEN",
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise ModelNotFound(
            f"{host} has no model {repo} (or it is private)",
            hint="lmsupply models lists known ones; HF_TOKEN opens private ones",
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ModelNotFound(f"{repo} has no such revision", hint=f"its revisions are at {host}/{repo}") from error
    except json.JSONDecodeError as error:
        raise HubError(
            f"{host} did not answer like a Hub", hint="is there a login page of the network in between?"
        ) from error
    except (errors.HfHubHTTPError, httpx2.HTTPError, OSError) as error:
        raise _network(error, host) from error


def _network(error: Exception, host: str) -> LmsupplyError:
    text = next(
        (line.strip() for line in str(error.__cause__ or error).splitlines() if line.strip()), type(error).__name__
    )
    if isinstance(error, OSError) and error.errno == 28:
        return HubError("the disk is full", hint="free some space and pull again")
    return HubError(
        f"cannot fetch from {host}: {text}",
        hint="check the network, a proxy (HTTPS_PROXY) or HF_ENDPOINT, and pull again",
    )
