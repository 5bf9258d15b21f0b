"""Fetch the damaged files of an installed model again, at the commit that was pulled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lmsupply_cli.errors import HubError
from lmsupply_cli.files import free_bytes
from lmsupply_cli.hub.client import HubClient
from lmsupply_cli.hub.resolve import Resolution
from lmsupply_cli.hub.variant import find_variants
from lmsupply_cli.store.locate import located
from lmsupply_cli.store.plan import PullPlan
from lmsupply_cli.store.verify import ModelCheck


def plan_repair(check: ModelCheck, root: Path, *, client: Callable[[], HubClient] = HubClient) -> PullPlan:
    """A pull that does not believe the record of the bad files. A bad file stays until its successor is right.

    Raises HubError, ModelNotFound.
    """
    manifest = check.manifest
    with client() as hub:
        tree = hub.fetch_tree(manifest.repo, manifest.commit)
    variant = next((v for v in find_variants(tree) if v.folder == manifest.variant), None)
    if variant is None:
        raise HubError(
            f"{manifest.repo} no longer holds {manifest.variant}",
            hint=f"lmsupply rm {manifest.ref}, then pull it again",
        )
    return PullPlan(
        ref=manifest.ref,
        tree=tree,
        resolution=Resolution(variant, ("it is installed",), ()),
        license=located(manifest, root).license,
        files=(),
        free_disk_bytes=free_bytes(root),
        repairs=manifest,
        distrusted=frozenset(check.bad),
    )
