"""Every fault of a Hub ends in success after retries or in one clear line, over real HTTP."""

from __future__ import annotations

import errno
import functools
import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.hub import Fault, Hub, Repo, local_hub

from lmsupply_cli import load
from lmsupply_cli.errors import FileError, HubError, LicenseNotAccepted, LmsupplyError, ModelFilesError, ModelNotFound
from lmsupply_cli.events import FileProgress, Notice, ProgressListener
from lmsupply_cli.files import our_io_error
from lmsupply_cli.hub.client import HubClient, Limits
from lmsupply_cli.hub.retry import RetryPolicy
from lmsupply_cli.store import transfer as transfer_module
from lmsupply_cli.store.layout import parts_dir, snapshot_dir
from lmsupply_cli.store.locate import locate
from lmsupply_cli.store.manifest import Manifest, read_manifests
from lmsupply_cli.store.pull import plan_pull, run_pull

MODELS = Path(__file__).parent.parent / "models"
REPO = "someone/tiny"
BIG = "model.onnx.data"


def files(folder: str = "", model: str = "llama") -> dict[str, bytes]:
    found = {f"{folder}/{path.name}".lstrip("/"): path.read_bytes() for path in (MODELS / model).iterdir()}
    big = f"{folder}/{BIG}".lstrip("/")
    found[big] += random.Random(1).randbytes(400_000)  # large enough to be cut anywhere
    return found


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with local_hub() as hub:
        hub.repos[REPO] = Repo(files(), license="apache-2.0")
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


class Waits(list[float]):
    """Records what would have been slept."""


def client(waits: list[float] | None = None, **limits: float) -> functools.partial[HubClient]:
    quick = {"connect_s": 2, "silence_s": 0.5, "call_s": 2} | limits
    policy = RetryPolicy(sleep=(waits if waits is not None else []).append)
    return functools.partial(HubClient, Limits(**quick), policy)


class Heard(ProgressListener):
    def __init__(self) -> None:
        self.files: list[FileProgress] = []
        self.notices: list[Notice] = []

    def file(self, progress: FileProgress) -> None:
        self.files.append(progress)

    def notice(self, notice: Notice) -> None:
        self.notices.append(notice)


def pull(
    root: Path, waits: list[float] | None = None, name: str = REPO, heard: Heard | None = None, **limits: float
) -> Manifest:
    made = client(waits, **limits)
    return run_pull(plan_pull(name, root, client=made), root, client=made, listener=heard)


def whole(root: Path, hub: Hub) -> bool:
    """Is every file here as the Hub has it, with nothing left over?"""
    repo = hub.repos[REPO]
    snapshot = snapshot_dir(root, REPO, repo.commit)
    here = all((snapshot / path).read_bytes() == data for path, data in repo.files.items())
    return here and not list(parts_dir(root).glob("*")) and len(read_manifests(root)) == 1


def test_a_pull(hub: Hub, tmp_path: Path) -> None:
    heard = Heard()
    manifest = pull(tmp_path, heard=heard)
    assert whole(tmp_path, hub)
    assert manifest.ref == REPO
    assert locate(REPO, tmp_path).path == tmp_path / manifest.folder
    assert heard.files[-1].all_done_bytes == heard.files[-1].all_bytes == manifest.size_bytes
    reference = tmp_path / "models--someone--tiny" / "refs" / "main"
    assert reference.read_text() == hub.repos[REPO].commit
    assert len(hub.of("tree")) > 1, "the listing came in pages"
    asked = len(hub.requests)
    served = hub.served
    pull(tmp_path)  # again: only the listing is asked for
    assert hub.served - served <= len(hub.repos[REPO].files["genai_config.json"])
    assert len(hub.requests) > asked


def test_other_tools_see_what_was_pulled(hub: Hub, tmp_path: Path) -> None:
    from huggingface_hub import scan_cache_dir, try_to_load_from_cache

    pull(tmp_path)
    (repo,) = scan_cache_dir(tmp_path).repos
    assert (repo.repo_id, repo.size_on_disk) == (REPO, sum(map(len, hub.repos[REPO].files.values())))
    assert try_to_load_from_cache(REPO, "genai_config.json", cache_dir=tmp_path) is not None


RECOVERS = [
    Fault("cdn", "drop", BIG, after=100_000),
    Fault("cdn", "drop", BIG, after=0),
    Fault("cdn", "drop", BIG, after=100_000, times=3),
    Fault("cdn", "reset", BIG, after=150_000),
    Fault("cdn", "reset", BIG, after=0),
    Fault("cdn", "stall", BIG, after=50_000),
    Fault("cdn", "corrupt", BIG),
    Fault("cdn", "short", BIG, after=1000),
    Fault("resolve", "corrupt", "tokenizer_config.json"),
    Fault("resolve", "short", "chat_template.jinja", after=10),
    Fault("cdn", "status", BIG, status=503),
    Fault("cdn", "status", BIG, status=403),
    Fault("cdn", "status", BIG, status=404),
    Fault("resolve", "status", BIG, status=500, times=2),
    Fault("resolve", "status", BIG, status=429, headers={"Retry-After": "7"}),
    Fault("info", "status", status=503),
    Fault("info", "status", status=429, headers={"Retry-After": "3"}),
    Fault("info", "reset"),
    Fault("info", "drop"),
    Fault("info", "stall"),
    Fault("info", "trickle"),
    Fault("tree", "status", status=503, times=2),
    Fault("tree", "stall"),
    Fault("tree", "reset"),
    Fault("resolve", "stall", "tokenizer_config.json"),
    Fault("resolve", "drop", "tokenizer_config.json", after=10),
]


def test_what_is_waited_for_is_said_while_the_repo_is_listed(hub: Hub, tmp_path: Path) -> None:
    hub.faults = [Fault("tree", "status", status=429, headers={"Retry-After": "7"}), Fault("info", "reset")]
    heard = Heard()
    plan_pull(REPO, tmp_path, client=client(), listener=heard)
    assert [notice.text for notice in heard.notices] == [f"{hub.url[7:]} answered 429; trying again in 7 s"]


def named(fault: Fault) -> str:
    return f"{fault.where}-{fault.kind}-{fault.status if fault.kind == 'status' else fault.after}"


@pytest.mark.parametrize("fault", RECOVERS, ids=named)
def test_what_passes_ends_well(hub: Hub, tmp_path: Path, fault: Fault) -> None:
    hub.faults = [Fault(**vars(fault))]
    waits: list[float] = []
    pull(tmp_path, waits, call_s=0.6)
    assert whole(tmp_path, hub)
    assert hub.faults[0].times == 0
    if "Retry-After" in fault.headers:
        assert waits == [float(fault.headers["Retry-After"])]
    elif fault.kind != "corrupt":
        assert waits[0] == 1


def test_a_dropped_file_goes_on_where_it_stopped(hub: Hub, tmp_path: Path) -> None:
    hub.faults = [Fault("cdn", "drop", BIG, after=100_000)]
    pull(tmp_path)
    ranges = [r.range for r in hub.of("cdn", BIG)]
    assert ranges[0] == ""
    assert ranges[1].startswith("bytes=")
    assert int(ranges[1].removeprefix("bytes=").rstrip("-")) > 50_000
    assert len(hub.of("resolve", BIG)) == 2, "a fresh signed address each time"


def test_progress_never_gives_up_what_moves(hub: Hub, tmp_path: Path) -> None:
    """More drops than there are tries: each gained something."""
    hub.faults = [Fault("cdn", "drop", BIG, after=30_000, times=12)]
    pull(tmp_path)
    assert whole(tmp_path, hub)


def test_a_server_that_ignores_the_range(hub: Hub, tmp_path: Path) -> None:
    hub.faults = [Fault("cdn", "drop", BIG, after=100_000), Fault("cdn", "no_range", BIG)]
    heard = Heard()
    pull(tmp_path, heard=heard)
    assert whole(tmp_path, hub)
    assert heard.files[-1].all_done_bytes == heard.files[-1].all_bytes


FAILS = [
    ([Fault("cdn", "status", BIG, status=503, times=99)], HubError, "answered 503"),
    ([Fault("cdn", "reset", BIG, times=99)], HubError, "broke"),
    ([Fault("cdn", "corrupt", BIG, times=2)], HubError, "arrived damaged twice"),
    ([Fault("cdn", "short", BIG, after=1000, times=99)], HubError, "the server offers 1,000"),
    ([Fault("info", "html", times=99)], HubError, "did not answer like a Hub"),
    ([Fault("tree", "html", times=99)], HubError, "did not answer like a Hub"),
    ([Fault("resolve", "html", BIG, times=99)], HubError, "did not answer like a Hub"),
    ([Fault("resolve", "html", "genai_config.json", times=99)], HubError, "did not answer like a Hub"),
    ([Fault("info", "status", status=500, times=99)], HubError, "answered 500"),
    ([Fault("tree", "stall", times=99)], HubError, "silent"),
    ([Fault("resolve", "status", "tokenizer", status=403, times=99)], HubError, "answered 403"),
]


@pytest.mark.parametrize(
    ("faults", "kind", "said"), FAILS, ids=[f"{f[0].where}-{f[0].kind}-{f[0].status}" for f, _, _ in FAILS]
)
def test_what_lasts_is_one_line_that_names_the_host(
    hub: Hub, tmp_path: Path, faults: list[Fault], kind: type[LmsupplyError], said: str
) -> None:
    hub.faults = [Fault(**vars(fault)) for fault in faults]
    with pytest.raises(kind, match=said) as caught:
        pull(tmp_path, call_s=0.6)
    error = caught.value
    assert "\n" not in error.message
    assert error.hint
    assert "signature" not in error.message + error.hint
    assert error.exit_code == 1
    assert "127.0.0.1" in error.message or BIG in error.message
    assert read_manifests(tmp_path) == [], "no manifest, no model"


def test_the_part_is_kept_for_the_next_try(hub: Hub, tmp_path: Path) -> None:
    hub.faults = [Fault("cdn", "drop", BIG, after=200_000), Fault("cdn", "status", BIG, status=503, times=99)]
    with pytest.raises(HubError):
        pull(tmp_path)
    (part,) = (p for p in parts_dir(tmp_path).glob("*.part") if p.stat().st_size > 100_000)
    have = part.stat().st_size
    hub.faults = []
    before = len(hub.of("cdn", BIG))
    plan = plan_pull(REPO, tmp_path, client=client())
    assert plan.total_bytes - plan.fetch_bytes >= have
    pull(tmp_path)
    assert [r.range for r in hub.of("cdn", BIG)[before:]] == [f"bytes={have}-"]
    assert whole(tmp_path, hub)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 420_000), damaged=st.booleans())
def test_a_part_of_any_length_becomes_the_original_bytes(
    hub: Hub, tmp_path_factory: pytest.TempPathFactory, cut: int, damaged: bool
) -> None:
    root = tmp_path_factory.mktemp("store")
    data = hub.repos[REPO].files[BIG]
    plan = plan_pull(REPO, root, client=client())
    (planned,) = (p for p in plan.files if p.file.path == BIG)
    part = parts_dir(root) / f"{planned.file.digest.replace(':', '-')}.part"
    part.parent.mkdir(parents=True)
    begun = data[:cut] + b"x" * max(0, cut - len(data))
    part.write_bytes(b"?" + begun[1:] if damaged and begun else begun)
    run_pull(plan, root, client=client())
    assert whole(root, hub)


def test_the_token_goes_to_the_hub_only(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repos[REPO].private = True
    with pytest.raises(ModelNotFound, match="or it is private: set HF_TOKEN"):
        pull(tmp_path)
    monkeypatch.setenv("HF_TOKEN", hub.token)
    pull(tmp_path)
    assert whole(tmp_path, hub)
    assert all(r.authorization == f"Bearer {hub.token}" for r in hub.requests if r.where != "cdn" and r.authorization)
    assert hub.of("cdn")
    assert all(r.authorization == "" for r in hub.of("cdn"))


def test_who_has_no_access(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repos[REPO].gated = True
    with pytest.raises(LicenseNotAccepted, match="gated and no token is set") as caught:
        pull(tmp_path)
    assert f"{hub.url}/{REPO}" in caught.value.hint
    assert caught.value.exit_code == 5
    monkeypatch.setenv("HF_TOKEN", hub.token)
    with pytest.raises(LicenseNotAccepted, match="this account has no access"):
        pull(tmp_path)
    monkeypatch.setenv("HF_TOKEN", "hf_bad_secret")
    with pytest.raises(HubError, match="refuses the token") as refused:
        pull(tmp_path)
    assert "hf_bad_secret" not in refused.value.message + refused.value.hint


@pytest.mark.parametrize(
    ("name", "said"),
    [("a/b", "has no model a/b"), (f"{REPO}@old", "no such revision"), ("phi99", "model 'phi99' not found")],
)
def test_what_is_not_there(hub: Hub, tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(ModelNotFound, match=said):
        pull(tmp_path, name=name)


def test_a_revision_by_its_commit(hub: Hub, tmp_path: Path) -> None:
    assert pull(tmp_path, name=f"{REPO}@{hub.repos[REPO].commit}").commit == hub.repos[REPO].commit


def test_a_file_that_vanished(hub: Hub, tmp_path: Path) -> None:
    plan = plan_pull(REPO, tmp_path, client=client())
    del hub.repos[REPO].files[BIG]
    with pytest.raises(HubError, match=r"has no file model\.onnx\.data any more"):
        run_pull(plan, tmp_path, client=client())


@pytest.mark.parametrize("path", ["../evil", "/etc/evil", "a/../../evil", "C:/evil", "con", "images/Shot 10:30.png"])
def test_a_path_that_is_not_safe_is_never_written_and_harms_nothing(hub: Hub, tmp_path: Path, path: str) -> None:
    hub.repos[REPO].odd_paths = [path]
    plan = plan_pull(REPO, tmp_path, client=client())
    assert plan.tree.unsafe == {path}
    assert path not in [planned.file.path for planned in plan.files]
    run_pull(plan, tmp_path, client=client())
    assert not list(tmp_path.rglob("*evil*"))


def test_a_variant_that_needs_a_path_that_is_not_safe_is_refused(hub: Hub, tmp_path: Path) -> None:
    config = json.loads(hub.repos[REPO].files["genai_config.json"])
    config["model"]["decoder"]["filename"] = "../evil"
    hub.repos[REPO].files["genai_config.json"] = json.dumps(config).encode()
    hub.repos[REPO].odd_paths = ["../evil"]
    with pytest.raises(HubError, match="needs a file whose path is not safe"):
        pull(tmp_path)


def test_nothing_is_written_through_a_link(hub: Hub, tmp_path: Path) -> None:
    hub.repos[REPO] = Repo(files("cpu"), license="mit")
    snapshot = snapshot_dir(tmp_path, REPO, hub.repos[REPO].commit)
    snapshot.mkdir(parents=True)
    outside = tmp_path / "outside"
    outside.mkdir()
    (snapshot / "cpu").symlink_to(outside)
    with pytest.raises(FileError, match="is a link"):
        pull(tmp_path)
    assert not list(outside.iterdir())


def test_the_structure_is_checked_before_the_manifest(hub: Hub, tmp_path: Path) -> None:
    hub.repos[REPO].files["genai_config.json"] = b"{"
    with pytest.raises(ModelFilesError, match=r"does not run here: genai_config\.json is damaged"):
        pull(tmp_path)
    assert hub.of("cdn") == []
    whole_files = files()
    hub.repos[REPO] = Repo({**whole_files, BIG: whole_files[BIG][:1000]})
    with pytest.raises(
        ModelFilesError, match=r"not usable: .*model\.onnx\.data has 1,000 bytes; at least 55,168 are expected"
    ):
        pull(tmp_path)
    hub.repos[REPO] = Repo({path: data for path, data in whole_files.items() if path != BIG})
    with pytest.raises(ModelFilesError, match=r"model\.onnx\.data is missing"):
        pull(tmp_path)
    assert read_manifests(tmp_path) == []


def test_a_disk_that_is_too_small_is_known_first(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lmsupply_cli.store.fetch.free_bytes", lambda _: 1000)
    with pytest.raises(HubError, match=r"only 1\.0 kB is free on the disk"):
        pull(tmp_path)
    assert hub.of("cdn") == []


def test_a_disk_that_fills_up_in_the_middle(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = 120_000
    write = transfer_module.PartFile.write

    def limited(self: transfer_module.PartFile, data: bytes) -> None:
        nonlocal room
        room -= len(data)
        with our_io_error(self.path):
            if room < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
        write(self, data)

    monkeypatch.setattr(transfer_module.PartFile, "write", limited)
    with pytest.raises(FileError, match="No space left on device") as caught:
        pull(tmp_path)
    assert "free some space" in caught.value.hint
    monkeypatch.undo()
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    assert any(part.stat().st_size > 0 for part in parts_dir(tmp_path).iterdir())
    pull(tmp_path)
    assert whole(tmp_path, hub)


def test_a_store_that_cannot_be_written(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / ".lmsupply").write_text("a file where a folder should be")
    with pytest.raises(FileError, match=r"cannot write .*\.lmsupply"):
        pull(tmp_path)


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9", "http://no-such-host.invalid"])
def test_a_hub_that_cannot_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    with pytest.raises(HubError, match="cannot reach") as caught:
        pull(tmp_path)
    assert endpoint.removeprefix("http://") in caught.value.message


def test_nobody_waits_long_for_a_network_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = Waits()
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with client(waits)() as nowhere, pytest.raises(HubError, match="cannot reach"):
        nowhere.fetch_tree(REPO)
    assert waits == [1, 2]
    waits.clear()
    with local_hub() as hub:
        hub.repos[REPO] = Repo(files())
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        once_there = client(waits)()
        tree = once_there.fetch_tree(REPO)
        hub.faults = [Fault("resolve", "reset", after=0)]  # ends the connection that was kept
    with once_there, pytest.raises(HubError, match="cannot reach"):
        once_there.fetch_text(tree, "genai_config.json")
    assert waits == [1, 2, 4, 8, 16], "it may come back"


def test_only_a_download_that_had_begun_is_said_to_resume(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.faults = [Fault("cdn", "status", times=99, status=503)]
    with pytest.raises(HubError) as begun:
        pull(tmp_path)
    assert begun.value.hint.endswith("then try again; the download will resume")
    hub.faults = [Fault("info", "status", times=99, status=503)]
    with pytest.raises(HubError) as planned:
        plan_pull(REPO, tmp_path, client=client())
    assert planned.value.hint.endswith("then try again")


def test_a_proxy_is_used_and_a_broken_one_is_said(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with pytest.raises(HubError, match="cannot reach"):
        pull(tmp_path)
    monkeypatch.setenv("HTTP_PROXY", "nonsense://x")
    with pytest.raises(HubError, match="proxy"):
        pull(tmp_path)


def test_a_pull_through_a_proxy(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Hub of the test stands in for the proxy: it is asked for a host that does not exist."""
    monkeypatch.setenv("HF_ENDPOINT", "http://mirror.invalid")
    monkeypatch.setenv("HTTP_PROXY", hub.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    pull(tmp_path)
    assert whole(tmp_path, hub)


def test_a_pull_does_not_break_who_uses_the_model(hub: Hub, tmp_path: Path) -> None:
    first = pull(tmp_path)
    with load(tmp_path / first.folder) as model:
        before = model.generate("hello", temperature=0, max_tokens=8).text
        pull(tmp_path)
        hub.repos[REPO].files["README.md"] = b"a new commit"
        second = pull(tmp_path)
        assert second.commit != first.commit
        assert model.generate("hello there", temperature=0, max_tokens=8).usage.completion_tokens > 0
        assert model.generate("hello", temperature=0, max_tokens=8).text == before
    assert locate(REPO, tmp_path).commit == second.commit
    assert locate(f"{REPO}@{first.commit}", tmp_path).commit == first.commit


def test_a_pinned_revision_that_is_gone(hub: Hub, tmp_path: Path) -> None:
    """The catalogue pins what was seen; a repo that was rewritten since is taken at main."""
    hub.repos["microsoft/Phi-3.5-mini-instruct-onnx"] = Repo(files("cpu/cpu-int4", "phi3"))
    assert pull(tmp_path, name="phi-3.5").ref == "phi-3.5"


def test_the_manifest_can_be_read_by_a_person(hub: Hub, tmp_path: Path) -> None:
    manifest = pull(tmp_path)
    data = json.loads((tmp_path / ".lmsupply" / "manifests" / f"{manifest.key}.json").read_text())
    assert data["schema"] == 2
    assert data["files"][BIG]["digest"].startswith("sha256:")
    assert data["files"]["tokenizer_config.json"]["digest"].startswith("git-sha1:")
