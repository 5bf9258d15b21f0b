"""Any number of pulls and removals at once, killed or not, with and without working locks: never a wrong byte."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.hub import LFS_BYTES, Hub, Repo, local_hub
from support.killed import ForkServer, Job

from lmsupply_cli.events import ProgressListener
from lmsupply_cli.store.leftovers import find_leftovers, free_leftovers
from lmsupply_cli.store.manifest import read_manifests, read_records
from lmsupply_cli.store.pull import plan_pull, run_pull
from lmsupply_cli.store.verify import verify

MODEL = {path.name: path.read_bytes() for path in (Path(__file__).parent.parent / "models" / "toy").iterdir()}
CONTENTS = (b"", b"{}", b'{"a": 1}', b'{"a": "%s"}' % (b"x" * 3000), b'{"b": "%s"}' % (b"y" * 200_000))
EXTRA = ("special_tokens_map.json", "added_tokens.json", "vocab.json", "LICENSE", "merges.txt")
REPOS = ("a/one", "a/two", "b/three")


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with local_hub() as hub:
        yield hub


@pytest.fixture(scope="module")
def server(hub: Hub) -> Iterator[ForkServer]:
    with ForkServer(hub.url) as server:
        yield server


@st.composite
def repos(draw: st.DrawFn) -> dict[str, Repo]:
    """Up to three repos of one or two variants, whose files share contents with each other, or are empty."""
    found = {}
    for name in draw(st.lists(st.sampled_from(REPOS), min_size=1, max_size=3, unique=True)):
        files = {"LICENSE": draw(st.sampled_from(CONTENTS))}
        for variant in draw(st.sampled_from((["cpu-int4"], ["cpu-int4", "cpu-int8"]))):
            extra = draw(st.dictionaries(st.sampled_from(EXTRA), st.sampled_from(CONTENTS), max_size=4))
            files |= {f"{variant}/{path}": data for path, data in (extra | MODEL).items()}
        found[name] = Repo(files)
    return found


def refs_of(repos: Mapping[str, Repo]) -> list[str]:
    return sorted(
        {f"{name}:{path.split('/')[0]}" for name, repo in repos.items() for path in repo.files if "/" in path}
    )


@st.composite
def rounds(draw: st.DrawFn, refs: list[str]) -> list[Job]:
    """Two to four processes; some pull in several threads, some are killed, some remove."""
    locks = draw(st.booleans())
    jobs = []
    for _ in range(draw(st.integers(2, 4))):
        names = tuple(draw(st.lists(st.sampled_from(refs), min_size=1, max_size=2, unique=True)))
        kind = draw(st.sampled_from(("pull", "pull", "pull", "remove", "free")))
        jobs.append(
            Job(
                "",
                pull=names if kind == "pull" else (),
                remove=names if kind == "remove" else (),
                free=kind == "free",
                kill_at=draw(st.sampled_from((0, 0, 0, 3, 9, 17, 30, 45))),
                locks=locks,
            )
        )
    return jobs


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(repos=repos(), data=st.data())
def test_never_a_wrong_byte(
    hub: Hub, server: ForkServer, tmp_path_factory: pytest.TempPathFactory, repos: dict[str, Repo], data: st.DataObject
) -> None:
    root = tmp_path_factory.mktemp("store")
    hub.repos = repos
    refs = refs_of(repos)
    for _ in range(2):
        jobs = data.draw(rounds(refs))
        codes = server.round([Job(**(vars(job) | {"root": str(root)})) for job in jobs])
        assert all(code == (-9 if job.kill_at and code else 0) for job, code in zip(jobs, codes, strict=True))
        everything_named_is_right(root, repos)
    assert server.round([Job(str(root), pull=tuple(refs))]) == [0]
    everything_named_is_right(root, repos)
    assert [m.ref for m in read_manifests(root)] == refs
    assert free_leftovers(root)[1] == ()
    left = find_leftovers(root)
    assert (left.files, left.parts, left.temporary, left.size_bytes) == ({}, (), (), 0)


def everything_named_is_right(root: Path, repos: Mapping[str, Repo]) -> None:
    """What has its final name has its bytes, and what is installed is whole."""
    for home in root.glob("models--*"):
        repo = repos[home.name.removeprefix("models--").replace("--", "/", 1)]
        for path in (home / "snapshots" / repo.commit).rglob("*"):
            if path.is_file():
                assert path.read_bytes() == repo.files[path.relative_to(home / "snapshots" / repo.commit).as_posix()]
    records = read_records(root)
    assert records.skipped == ()
    for manifest in records.manifests:
        assert verify(root, manifest).ok


@pytest.mark.parametrize("locks", [True, False], ids=["locks work", "locks do nothing"])
def test_one_content_is_fetched_once_whoever_asks(hub: Hub, server: ForkServer, tmp_path: Path, locks: bool) -> None:
    """Equal files in one variant, in two variants, in two repos; asked for by threads and by processes."""
    big, small = CONTENTS[4], b'{"c": 1}'
    files = {f"cpu-{kind}/{name}": data for kind in ("int4", "int8") for name, data in MODEL.items()}
    twice = {"cpu-int4/special_tokens_map.json": big, "cpu-int4/added_tokens.json": big, "LICENSE": small}
    hub.repos = {"a/one": Repo(files | twice), "a/two": Repo(files | {"cpu-int8/added_tokens.json": big})}
    hub.requests.clear()
    jobs = [
        Job(str(tmp_path), pull=("a/one:cpu-int4", "a/one:cpu-int8"), locks=locks),
        Job(str(tmp_path), pull=("a/two:cpu-int8",), locks=locks),
        Job(str(tmp_path), pull=("a/two:cpu-int4", "a/two:cpu-int8"), locks=locks),
    ]
    assert server.round(jobs) == [0, 0, 0]
    everything_named_is_right(tmp_path, hub.repos)
    large = Counter(
        hub.repos["/".join(r.path.split("/")[:2])].files["/".join(r.path.split("/")[2:])] for r in hub.of("cdn")
    )
    assert set(large.values()) == {1}
    assert {data for data in large if len(data) >= LFS_BYTES} == {big, MODEL["tokenizer.json"]}
    licenses = [r for r in hub.of("resolve") if r.path.endswith("/LICENSE")]
    assert len(licenses) == 1


def test_equal_files_of_one_variant_are_all_there(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    hub.repos = {
        "a/equal": Repo(MODEL | {"special_tokens_map.json": MODEL["tokenizer_config.json"], "merges.txt": b""})
    }
    plan = plan_pull("a/equal", tmp_path)
    assert plan.fetch_bytes == plan.total_bytes - len(MODEL["tokenizer_config.json"])
    heard: list[str] = []
    listener = ProgressListener()
    listener.notice = lambda notice: heard.append(notice.text)  # type: ignore[method-assign]
    run_pull(plan, tmp_path, listener=listener)
    assert heard == [], "it waits for itself, which is no news"
    everything_named_is_right(tmp_path, hub.repos)
    again = plan_pull("a/equal", tmp_path)
    assert again.fetch_bytes == 0


def test_a_damaged_copy_is_not_taken(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another model of the store has the content by its record, and not on the disk."""
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    hub.repos = {"a/one": Repo(MODEL), "a/two": Repo(MODEL)}
    first = run_pull(plan_pull("a/one", tmp_path), tmp_path)
    damaged = tmp_path / first.snapshot / "tokenizer.json"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    second = run_pull(plan_pull("a/two", tmp_path), tmp_path)
    assert verify(tmp_path, second).ok
    assert verify(tmp_path, first).bad == ["tokenizer.json"]
