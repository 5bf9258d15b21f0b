"""Temporary folders in the store. One that a killed process left behind goes when the next one is made."""

from __future__ import annotations

import shutil
import uuid
import weakref
from contextlib import ExitStack
from pathlib import Path

from lmsupply_cli.files import is_folder, listed, our_io_error
from lmsupply_cli.locks import is_held, locked
from lmsupply_cli.store.layout import OURS, inside


class TemporaryFolder:
    """An empty folder, there until it is closed or the process ends. Its lock says that it is in use."""

    def __init__(self, root: Path) -> None:
        """Raises FileError where the store cannot be written to."""
        self.path = inside(root, _place(root) / uuid.uuid4().hex)
        with our_io_error(self.path), ExitStack() as held:
            for folder in abandoned_folders(root):
                shutil.rmtree(folder, ignore_errors=True)
            held.enter_context(locked(_lock_of(self.path)))
            self.path.mkdir()
            self._close = weakref.finalize(self, _remove, self.path, held.pop_all())

    def close(self) -> None:
        """Remove it; a second call does nothing."""
        self._close()


def abandoned_folders(root: Path) -> list[Path]:
    """Temporary folders whose process is gone."""
    return [path for path in listed(_place(root)) if is_folder(path) and not is_held(_lock_of(path))]


def _remove(folder: Path, held: ExitStack) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    held.close()


def _place(root: Path) -> Path:
    return root / OURS / "temporary"


def _lock_of(folder: Path) -> Path:
    return folder.with_suffix(".lock")
