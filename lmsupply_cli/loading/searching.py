"""Search the Hub for models that the engine runs: each repo is judged like a pull of it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePosixPath

from lmsupply_cli.catalogue.entry import CatalogueEntry, License
from lmsupply_cli.catalogue.lookup import entry_of_repo
from lmsupply_cli.errors import HubError, LicenseNotAccepted, ModelNotFound, UsageError
from lmsupply_cli.genai_config import CONFIG
from lmsupply_cli.hub.answers import Found
from lmsupply_cli.hub.client import HubClient, kept_offline_by
from lmsupply_cli.hub.licenses import license_of
from lmsupply_cli.hub.resolve import VariantWish
from lmsupply_cli.hub.variant import Variant
from lmsupply_cli.store.pull import resolve_here

_AT_ONCE = 4  # repos that are looked at in parallel


@dataclass(frozen=True)
class SearchResult:
    """A repo with models in ONNX GenAI format. `variant`: the one for this machine, None where `reason` says why there
    is none, or that the user has to choose; `license`: None where the Hub did not tell."""

    repo: str
    downloads: int
    entry: CatalogueEntry | None = None
    license: License | None = None
    variant: Variant | None = None
    reason: str = ""
    runs: bool = True


def search(text: str, wish: VariantWish, *, limit: int = 10, offline: bool = False) -> list[SearchResult]:
    """The most downloaded first. Raises HubError, also when offline."""
    if cause := kept_offline_by(offline):
        hint = f"leave out {cause}; lmsupply models lists the models known without the Hub"
        raise HubError("cannot search the Hub offline", hint=hint)
    with HubClient() as hub:
        found = list(islice((one for one in hub.search(text) if _has_genai(one)), limit))
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(lambda one: _judged(hub, one, wish), found))


def _has_genai(found: Found) -> bool:
    return any(PurePosixPath(path).name == CONFIG for path in found.files)


def _judged(hub: HubClient, found: Found, wish: VariantWish) -> SearchResult:
    try:
        tree = hub.fetch_tree(found.repo)
    except (LicenseNotAccepted, ModelNotFound) as error:  # gated or private: its configs are not shown
        entry = entry_of_repo(found.repo)
        return SearchResult(found.repo, found.downloads, entry, entry.license if entry else None, reason=error.message)
    entry = entry_of_repo(tree.repo)
    license = license_of(tree, entry)
    try:
        resolution, obstacles = resolve_here(tree, wish, entry)
    except UsageError as error:  # several models in one repo
        return SearchResult(found.repo, found.downloads, entry, license, reason=error.message)
    except (ModelNotFound, HubError) as error:
        return SearchResult(found.repo, found.downloads, entry, license, reason=error.message, runs=False)
    reason = next((o.text for o in obstacles if not o.lifted_by), "")
    return SearchResult(found.repo, found.downloads, entry, license, resolution.chosen, reason, runs=not reason)
