"""What is known of a model folder on the disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from lmsupply_cli.engine.onnx_graph import external_files
from lmsupply_cli.errors import ModelFilesError
from lmsupply_cli.files import JSON_BYTES, parse_json, read_bytes, reason_of, size_of
from lmsupply_cli.genai_config import CONFIG, TOKENIZER, tokenizer_head

COPY_AGAIN = "copy the folder again from where it came"
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_POINTER_BYTES = 1024
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class DiskView:
    """A FolderView of a folder on the disk. Of a tokenizer.json it may read the head alone."""

    def __init__(self, path: Path, again: str = COPY_AGAIN) -> None:
        self.path, self.again = path, again
        self._read: dict[str, Any] = {}

    def shown(self, name: str) -> str:
        return str(self.path / name)

    def size(self, name: str) -> int:
        return size_of(self.path / name)

    def absent(self, name: str) -> str:
        path = self.path / name
        try:
            if path.exists():
                return "is not a regular file"
            return "is a dangling link" if path.is_symlink() else "is missing"
        except (OSError, ValueError):
            return "cannot be looked at"

    def read(self, name: str) -> Any:
        if name not in self._read:
            path = self.path / name
            damaged = f"{path} is damaged: it"
            data = read_bytes(path, limit_bytes=JSON_BYTES, error=ModelFilesError)
            if name == CONFIG and data.startswith(_BYTE_ORDER_MARK):
                raise ModelFilesError(
                    f"{path} begins with a byte order mark, which the engine does not take",
                    hint="save it as UTF-8 without one",
                )
            head = tokenizer_head(data) if name == TOKENIZER else data
            value = parse_json(head, damaged, error=ModelFilesError)
            self._read[name] = [] if value is None else value  # None stands for what is not known; neither is an object
        return self._read[name]

    def is_pointer(self, name: str) -> bool:
        if not 0 < self.size(name) <= _POINTER_BYTES:
            return False
        data = read_bytes(self.path / name, limit_bytes=_POINTER_BYTES, error=ModelFilesError)
        return data.startswith(_LFS_POINTER)

    def data(self, graph: str) -> Mapping[str, int]:
        if graph.endswith(".ort"):  # another format, which holds its weights itself
            return {}
        try:
            return external_files(self.path / graph)
        except OSError as error:
            raise ModelFilesError(f"cannot read {self.path / graph}: {reason_of(error)}") from error

    def leaves(self, graph: str, name: str) -> bool:
        """As the engine sees it: links count, and the folder of the graph itself is a right place as well."""
        location = PurePosixPath(name.replace("\\", "/"))
        if location.is_absolute() or PureWindowsPath(name).is_absolute():
            return True
        path = self.path / graph
        try:
            target, places = (path.parent / location).resolve(), (path.parent.resolve(), path.resolve().parent)
        except (OSError, RuntimeError, ValueError):
            return True
        return not any(target.is_relative_to(place) for place in places)
