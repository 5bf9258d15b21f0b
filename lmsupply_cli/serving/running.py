"""The records of servers that run on this machine, so that other commands find them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lmsupply_cli import paths
from lmsupply_cli.errors import LmsupplyError
from lmsupply_cli.files import listed, read_json, write_json
from lmsupply_cli.locks import is_held, locked


@dataclass(frozen=True, slots=True)
class RunningServer:
    """`url`: without a path; `started`: seconds since the epoch; `needs_key`: whether requests need one, which is written
    nowhere; `root`: the store that its models are from; `token`: opens the endpoints for commands of the same user, no
    others."""

    url: str
    pid: int
    started: float
    version: str
    needs_key: bool
    root: str
    token: str = field(default="", repr=False)

    @classmethod
    def all(cls) -> list[RunningServer]:
        """Those that run, the newest first. Records of others, which were killed, are removed."""
        found = []
        for path in listed(_folder(), "*.json"):
            if not is_held(_lock_of(path)):
                with suppress(OSError):
                    path.unlink()
            elif server := cls._read(path):
                found.append(server)
        return sorted(found, key=lambda server: server.started, reverse=True)

    @classmethod
    def find(cls) -> RunningServer | None:
        """The newest that runs, None without one."""
        return next(iter(cls.all()), None)

    @classmethod
    def _read(cls, path: Path) -> RunningServer | None:
        try:
            return cls._of(read_json(path))
        except (LmsupplyError, TypeError):
            return None

    @classmethod
    def _of(cls, values: Any) -> RunningServer:
        """Raises TypeError for values that are none."""
        server = cls(**values)
        kinds: dict[str, Any] = {
            "url": str,
            "pid": int,
            "started": (int, float),
            "version": str,
            "needs_key": bool,
            "root": str,
            "token": str,
        }
        if not all(isinstance(getattr(server, name), kind) for name, kind in kinds.items()):
            raise TypeError
        return server

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """The record is there in the block. It counts only while this process holds its lock, so a server that is killed
        is not taken for one that runs. Raises FileError."""
        path = _folder() / f"{os.getpid()}.json"
        with locked(_lock_of(path)):
            write_json(path, asdict(self), private=True)
            try:
                yield
            finally:
                with suppress(OSError):
                    path.unlink()


def _folder() -> Path:
    return paths.state_dir() / "servers"


def _lock_of(record: Path) -> Path:
    return record.with_suffix(".lock")
