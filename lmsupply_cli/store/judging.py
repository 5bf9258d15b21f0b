"""Whether a model runs here: a variant of a repo before it is fetched, and a model that was found on this machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from lmsupply_cli.engine.folder import COPY_AGAIN, ModelFolder, look_at_folder, open_folder
from lmsupply_cli.engine.runnable import ON_CPU, Obstacle, find_obstacles
from lmsupply_cli.errors import ModelFilesError, ProviderUnavailable
from lmsupply_cli.files import parse_json
from lmsupply_cli.genai_config import CONFIG, TOKENIZER_CONFIG, declared_provider
from lmsupply_cli.providers import CPU, ROWS
from lmsupply_cli.store.locate import LocatedModel

if TYPE_CHECKING:
    from lmsupply_cli.hub.resolve import VariantWish
    from lmsupply_cli.hub.tree import RepoTree
    from lmsupply_cli.hub.variant import Variant

_INCOMPLETE = "the repo itself is incomplete; try another variant or repo"
_NO_LIBRARIES = "lmsupply fetches no libraries; try another variant or repo"


def judge_variant(
    tree: RepoTree, variant: Variant, wish: VariantWish, read_text: Callable[[str], str] | None = None
) -> tuple[Obstacle, ...]:
    """What is in the way of running the variant here, as far as its listing and texts tell. `read_text`: of a path in the
    repo, without it only the config is read."""
    found = list(find_obstacles(RepoView(tree, variant, read_text)))
    if variant.device not in ROWS[wish.provider].runs and not any(o.lifted_by == (ON_CPU,) for o in found):
        found.append(_made_for(variant))
    libraries = tuple(o for o in found if o.loads and ON_CPU not in o.lifted_by)
    rest = tuple(o for o in found if o not in libraries and not (wish.on_cpu and ON_CPU in o.lifted_by))
    tried = _tried_on_cpu(variant) if wish.on_cpu and variant.device not in CPU.runs else ()
    return tuple(Obstacle(o.text, _NO_LIBRARIES, kind=o.kind) for o in libraries) + rest + tried


def open_model(model: LocatedModel, *, trust: bool = False, weights: bool = True) -> ModelFolder:
    """`open_folder` of a model; where it is one of ours, damage is repaired by verify."""
    return open_folder(model.path, trust=trust, weights=weights, again=again(model))


def look_at_model(model: LocatedModel) -> tuple[ModelFolder, tuple[Obstacle, ...]]:
    """`look_at_folder` of a model."""
    return look_at_folder(model.path, again=again(model))


def again(model: LocatedModel) -> str:
    """How to get its files once more."""
    if model.key and model.source:
        return f"import it again: lmsupply rm {model.ref}, then import its source"
    if model.key and model.repo:
        return f"lmsupply verify --repair {model.ref}"
    if model.external and model.repo:
        return f"fetch it again with the tool that put it there, or lmsupply pull {model.repo}"
    return COPY_AGAIN


class RepoView:
    """A FolderView of a variant that is still in its repo."""

    again = _INCOMPLETE

    def __init__(self, tree: RepoTree, variant: Variant, read_text: Callable[[str], str] | None) -> None:
        self._tree, self._variant, self._read_text = tree, variant, read_text
        start = f"{variant.folder}/" if variant.folder else ""
        self._files = {f.target.removeprefix(start): f for f in variant.files if f.target.startswith(start)}
        self._read: dict[str, Any] = {}

    def shown(self, name: str) -> str:
        return self._files[name].path if name in self._files else f"{self._variant.folder}/{name}".lstrip("/")

    def size(self, name: str) -> int:
        return self._files[name].size_bytes if name in self._files else -1

    def absent(self, name: str) -> str:
        return "is missing"

    def read(self, name: str) -> Any:
        if name not in self._read:
            text = self._text(name)
            damaged = f"{self.shown(name)} is damaged: it"
            value = None if text is None else parse_json(text, damaged, error=ModelFilesError)
            self._read[name] = [] if text is not None and value is None else value  # `null` is known, and no object
        return self._read[name]

    def _text(self, name: str) -> str | None:
        """Nothing is decided by bytes that are not those of the repo; after the fetch the file is looked at again."""
        path = self.shown(name)
        text = None
        if name == CONFIG:
            text = self._tree.configs.get(path)
        elif name == TOKENIZER_CONFIG and self._read_text:
            text = self._read_text(path)
        return text if text is not None and _has_digest(text.encode(), self._tree.files[path].digest) else None

    def is_pointer(self, name: str) -> bool:
        return False

    def data(self, graph: str) -> Mapping[str, int]:
        return {}

    def leaves(self, graph: str, name: str) -> bool:
        return False


def _has_digest(data: bytes, digest: str) -> bool:
    import hashlib

    kind, _, wanted = digest.partition(":")
    if kind == "git-sha1":
        return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest() == wanted
    return not digest or hashlib.sha256(data).hexdigest() == wanted


def _made_for(variant: Variant) -> Obstacle:
    name = variant.declared or variant.device
    source = f"as its {CONFIG} says" if variant.declared else "by its name"
    return Obstacle(
        f"it is made for {name}, {source}",
        hint=f"{ON_CPU} may run it; not every model made for {name} does",
        lifted_by=(ON_CPU,),
        kind=ProviderUnavailable,
    )


def _tried_on_cpu(variant: Variant) -> tuple[Obstacle, ...]:
    name = declared_provider(variant.config) or variant.device
    return (
        Obstacle(f"it is made for {name} and may not run on the CPU", lifted_by=(ON_CPU,), kind=ProviderUnavailable),
    )
