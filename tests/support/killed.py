"""Processes that change a store and are killed on the way: forked from one small server, so that many are cheap.

    server = ForkServer()
    server.round([Job(root, pull=("a/b",)), Job(root, remove=("a/c",), kill_at=7)])

Each job is a process of its own. With `kill_at` it gets SIGKILL instead of its n-th call that changes the disk; with
`locks` off the operating system grants every lock, as some network file systems do.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

CALLS = ("replace", "rename", "link", "unlink", "mkdir", "rmdir", "fsync")


@dataclass(frozen=True)
class Job:
    """`pull`: refs to pull at the same time in threads; `remove`: refs to remove; `free`: free what is left over;
    `repair`: refs to verify and repair; `imports`: (file, name) of models to import, `sources`: refs to fetch and import,
    `again`: although they are imported."""

    root: str
    pull: tuple[str, ...] = ()
    imports: tuple[tuple[str, str], ...] = ()
    sources: tuple[str, ...] = ()
    again: bool = False
    remove: tuple[str, ...] = ()
    repair: tuple[str, ...] = ()
    free: bool = False
    kill_at: int = 0
    locks: bool = True


class ForkServer:
    """Close it, or use it in `with`."""

    def __init__(self, endpoint: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "HF_ENDPOINT": endpoint},
        )  # fmt: skip

    def round(self, jobs: Sequence[Job]) -> list[int]:
        """Run them at the same time; their exit codes, -9 for one that was killed."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps([asdict(job) for job in jobs]) + "\n")
        self._process.stdin.flush()
        codes: list[int] = json.loads(self._process.stdout.readline())
        return codes

    def __enter__(self) -> ForkServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()


def serve() -> None:
    import filelock  # before the forks, so that they are quick
    import httpx2
    import huggingface_hub

    import lmsupply_cli.store.imports
    import lmsupply_cli.store.leftovers
    import lmsupply_cli.store.pull
    import lmsupply_cli.store.remove
    import lmsupply_cli.store.repair
    import lmsupply_cli.store.sources
    import lmsupply_cli.store.verify

    assert filelock
    assert httpx2
    assert huggingface_hub
    assert lmsupply_cli.store
    for line in sys.stdin:
        children = [_fork(job) for job in json.loads(line)]
        ended = dict(os.wait() for _ in children)  # as they end: a lock lives as long as its process is not reaped
        print(json.dumps([os.waitstatus_to_exitcode(ended[child]) for child in children]), flush=True)


def _fork(job: dict[str, Any]) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        _arm(job["kill_at"])
        if not job["locks"]:
            import filelock._native._unix as native

            native.lock_fd_nonblocking = lambda fd: True
        _do(job)
        code = 0
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
    finally:
        sys.stderr.flush()
        os._exit(code)


def _arm(kill_at: int) -> None:
    """Let the n-th call that changes the disk be the last."""
    if not kill_at:
        return
    from lmsupply_cli.store.transfer import PartFile

    lock, count = threading.Lock(), 0

    def counted(call: Callable[..., Any], before: Callable[..., Any] = lambda *_: None) -> Callable[..., Any]:
        def inner(*arguments: Any, **more: Any) -> Any:
            nonlocal count
            with lock:
                count += 1
                if count == kill_at:
                    before(*arguments)
                    os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **more)

        return inner

    for name in CALLS:
        setattr(os, name, counted(getattr(os, name)))
    write = PartFile.write
    PartFile.write = counted(write, lambda part, data: write(part, data[: len(data) // 2]))  # type: ignore[method-assign]


def _do(job: dict[str, Any]) -> None:
    from lmsupply_cli.store.leftovers import free_leftovers
    from lmsupply_cli.store.manifest import read_manifests
    from lmsupply_cli.store.pull import run_pull
    from lmsupply_cli.store.remove import carry_out
    from lmsupply_cli.store.repair import plan_repair
    from lmsupply_cli.store.verify import verify

    root = Path(job["root"])
    failures: list[BaseException] = []

    def pull(name: str) -> None:
        try:
            _pull(name, root)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=pull, args=(name,)) for name in job["pull"]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    for file, name in job["imports"]:
        import_file(Path(file), name, root, again=job["again"])
    for name in job["sources"]:
        import_repo(name, root)
    by_ref = {m.ref: m for m in read_manifests(root)}
    carry_out(root, [by_ref[ref] for ref in job["remove"] if ref in by_ref])
    for ref in job["repair"]:
        check = verify(root, by_ref[ref])
        if not check.ok:
            run_pull(plan_repair(check, root), root)
    if job["free"]:
        free_leftovers(root)


def _pull(name: str, root: Path) -> None:
    from lmsupply_cli.store.pull import plan_pull, run_pull

    run_pull(plan_pull(name, root), root)


def import_file(file: Path, name: str, root: Path, *, again: bool = False, block_size: int = 0) -> Any:
    """Its manifest. The model is the toy, with the first bytes of the source in a file of its own."""
    from lmsupply_cli.store.imports import NewImport, begin_import
    from lmsupply_cli.store.manifest import ImportSource
    from lmsupply_cli.store.source_paths import read_digests, source_at

    source = source_at(file)
    assert source
    files = read_digests(root, source.files)
    new = NewImport(name, ImportSource(source.format, files, "int4" if block_size else "exact", block_size))
    with begin_import(root, new, needed_bytes=1000, again=again) as staging:
        return staging.installed or convert(source.files[0], staging)


def import_repo(name: str, root: Path, *, keep: bool = False) -> Any:
    from lmsupply_cli.store.imports import begin_import
    from lmsupply_cli.store.manifest import ImportForm
    from lmsupply_cli.store.plan import SourcePlan
    from lmsupply_cli.store.pull import plan_any
    from lmsupply_cli.store.sources import fetch_source

    plan = plan_any(name, root)
    assert isinstance(plan, SourcePlan)
    with fetch_source(plan, root, ImportForm("exact"), keep=keep) as fetched:
        if fetched.installed:
            return fetched.installed
        with begin_import(root, fetched.new, needed_bytes=1000) as staging:
            return staging.installed or convert(fetched.files[0], staging)


def convert(source: Path, staging: Any) -> Any:
    """What the importer would do; each time leaves a line beside the store."""
    from lmsupply_cli.store.imports import finish_import

    with (staging.root.parent / f"{staging.root.name}.converted").open("a") as log:
        log.write(f"{source.name}\n")
    for path in (Path(__file__).parent.parent / "models" / "toy").iterdir():
        (staging.folder / path.name).write_bytes(path.read_bytes())
    (staging.folder / "source.txt").write_bytes(source.read_bytes()[:100])
    return finish_import(staging, kinds={"Q4_K": 6, "F32": 5}, forms={"4 bits, block 32, exact": 6, "fp32": 5})


if __name__ == "__main__":
    serve()
