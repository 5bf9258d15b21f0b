"""ModelFactory: from a name to a model that is ready, shared by all who use it at the time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Unpack

from lmsupply_cli import paths
from lmsupply_cli.errors import ModelNotFound, ModelNotInstalled
from lmsupply_cli.events import ProgressListener
from lmsupply_cli.generation.generator import TextGenerator
from lmsupply_cli.generation.load import load
from lmsupply_cli.loading.options import LoadKeywords
from lmsupply_cli.loading.plan import find_model
from lmsupply_cli.loading.pulling import pull
from lmsupply_cli.serving.generator_pool import GeneratorPool
from lmsupply_cli.store.locate import LocatedModel, guide, installed_models


class Lease:
    """A reference to a shared model: `model` until `close`; closing the last one frees it. Use it in `with`."""

    def __init__(self, model: GeneratorPool, give_back: Callable[[], None]) -> None:
        self.model = model
        self._give_back: Callable[[], None] | None = give_back

    def close(self) -> None:
        """A second call does nothing."""
        if self._give_back:
            give_back, self._give_back = self._give_back, None
            give_back()

    def __enter__(self) -> GeneratorPool:
        return self.model

    def __exit__(self, *_: object) -> None:
        self.close()


class ModelFactory:
    """Shares one instance of each model among its users.

    >>> from lmsupply import ModelFactory
    >>> with ModelFactory().create("guide") as model:
    ...     print(model.generate("hello"))
    """

    def __init__(self, *, cache_dir: Path | str | None = None, load: Callable[..., TextGenerator] = load) -> None:
        self._cache_dir, self._load = cache_dir, load
        self._shared: dict[str, tuple[GeneratorPool, int]] = {}
        self._lock = threading.Lock()

    def list(self) -> list[LocatedModel]:
        """The models that can be created now, the built-in one first."""
        return [guide(), *installed_models(paths.store_root(self._cache_dir))]

    def is_available(self, ref: str) -> bool:
        """Whether the model is installed."""
        try:
            find_model(ref, self._cache_dir)
        except (ModelNotInstalled, ModelNotFound):
            return False
        return True

    def download(
        self, ref: str, *, accept_license: bool = False, listener: ProgressListener | None = None
    ) -> LocatedModel:
        """See `pull`."""
        return pull(ref, cache_dir=self._cache_dir, accept_license=accept_license, listener=listener)

    def create(self, ref: str, **options: Unpack[LoadKeywords]) -> Lease:
        """A lease of the model: loaded with the `options` of `load`, or shared if it is loaded already (with the
        options that it was loaded with)."""
        key = str(find_model(ref, self._cache_dir).path)
        with self._lock:
            if key in self._shared:
                pool, users = self._shared[key]
            else:
                pool, users = GeneratorPool(self._load(ref, **({"cache_dir": self._cache_dir} | options))), 0
            self._shared[key] = (pool, users + 1)
        return Lease(pool, lambda: self._give_back(key))

    def _give_back(self, key: str) -> None:
        with self._lock:
            pool, users = self._shared[key]
            if users > 1:
                self._shared[key] = (pool, users - 1)
                return
            del self._shared[key]
        pool.close()
