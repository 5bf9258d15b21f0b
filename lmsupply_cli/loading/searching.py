"""Search the Hub for models that the engine runs: each repo is judged like a pull of it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePosixPath

from lmsupply_cli.catalogue.entry import CatalogueEntry, License
from lmsupply_cli.catalogue.lookup import entry_of_repo
from lmsupply_cli.errors import HubError, LicenseNotAccepted, ModelNotFound, UsageError
from lmsupply_cli.events import ProgressListener
from lmsupply_cli.genai_config import CONFIG
from lmsupply_cli.hub.answers import Found
from lmsupply_cli.hub.client import HubClient, kept_offline_by
from lmsupply_cli.hub.licenses import tier_of
from lmsupply_cli.hub.variant import Variant
from lmsupply_cli.loading.pulling import VariantWish
from lmsupply_cli.store.judging import judge_variant
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


def search(
    text: str,
    *,
    limit: int = 10,
    provider: str = "auto",
    precision: str = "auto",
    offline: bool = False,
    listener: ProgressListener | None = None,
    client: Callable[[], HubClient] = HubClient,
) -> list[SearchResult]:
    """The most downloaded first. Raises HubError, also when offline."""
    if cause := kept_offline_by(offline):
        hint = f"leave out {cause}; lmsupply models lists the models known without the Hub"
        raise HubError("cannot search the Hub offline", hint=hint)
    on_cpu = provider == "cpu"
    wish = VariantWish(provider=provider, precision=precision).for_machine()
    provider, precision = wish.provider, wish.precision
    with client() as hub:
        hub.tell(listener or ProgressListener())
        found = list(islice((one for one in hub.search(text) if _has_genai(one)), limit))

        def look(one: Found) -> SearchResult:
            return _judged(hub, one, provider=provider, precision=precision, on_cpu=on_cpu)

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(look, found))


def _has_genai(found: Found) -> bool:
    return any(PurePosixPath(path).name == CONFIG for path in found.files)


def _judged(hub: HubClient, found: Found, *, provider: str, precision: str, on_cpu: bool) -> SearchResult:
    try:
        tree = hub.fetch_tree(found.repo)
    except (LicenseNotAccepted, ModelNotFound) as error:  # gated or private: its configs are not shown
        entry = entry_of_repo(found.repo)
        return SearchResult(found.repo, found.downloads, entry, entry.license if entry else None, reason=error.message)
    entry = entry_of_repo(tree.repo)
    license = entry.license if entry else License(tree.license or "unknown", tier_of(tree.license), tree.license_url)
    try:
        chosen = resolve_here(
            tree, provider=provider, precision=precision, wanted=None, entry=entry, on_cpu=on_cpu
        ).chosen
        obstacles = [o for o in judge_variant(tree, chosen, provider=provider, on_cpu=on_cpu) if not o.lifted_by]
    except UsageError as error:  # several models in one repo
        return SearchResult(found.repo, found.downloads, entry, license, reason=error.message)
    except (ModelNotFound, HubError) as error:
        return SearchResult(found.repo, found.downloads, entry, license, reason=error.message, runs=False)
    reason = obstacles[0].text if obstacles else ""
    return SearchResult(found.repo, found.downloads, entry, license, chosen, reason, runs=not obstacles)
