"""Fetch the damaged files of an installed model again, at the commit that was pulled."""

from __future__ import annotations

import shlex
from pathlib import Path

from lmsupply_cli.errors import HubError, UsageError
from lmsupply_cli.hub.client import HubClient
from lmsupply_cli.hub.resolve import Resolution
from lmsupply_cli.hub.variant import find_variants
from lmsupply_cli.store.locate import located
from lmsupply_cli.store.manifest import Manifest
from lmsupply_cli.store.plan import PullPlan, make_plan
from lmsupply_cli.store.verify import ModelCheck


def import_again(manifest: Manifest) -> str:
    """The commands that import a model anew."""
    source = manifest.repo or (manifest.source.files[0].path if manifest.source else "")
    verb = "pull" if manifest.repo else "add"
    return f"import it again: lmsupply rm {manifest.ref}, then lmsupply {verb} {shlex.quote(source)}"


def plan_repair(check: ModelCheck, root: Path) -> PullPlan:
    """A pull that does not trust the record of the bad files. A bad file stays until its replacement is complete.

    Raises HubError, ModelNotFound, UsageError for a model that was imported.
    """
    manifest = check.manifest
    if manifest.source:
        raise UsageError(
            f"{manifest.ref} was imported, so its files cannot be downloaded again", hint=import_again(manifest)
        )
    with HubClient() as hub:
        tree = hub.fetch_tree(manifest.repo, manifest.commit)
    variant = next((v for v in find_variants(tree) if v.folder == manifest.variant), None)
    if variant is None:
        raise HubError(
            f"{manifest.repo} no longer contains {manifest.variant}",
            hint=f"lmsupply rm {manifest.ref}, then pull it again",
        )
    return make_plan(
        root,
        manifest.ref,
        tree,
        Resolution(variant, ("it is installed",), ()),
        located(manifest, root).license,
        repairs=manifest,
        distrusted=check.bad,
    )
