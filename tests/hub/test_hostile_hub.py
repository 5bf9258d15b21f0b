"""A Hub that lies: every field of its answers is replaced, one at a time, by what no Hub says."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.hub import Fault, Hub, Repo, local_hub

from lmsupply_cli.errors import LmsupplyError
from lmsupply_cli.events import Notice, ProgressListener
from lmsupply_cli.hub.client import HubClient, Limits
from lmsupply_cli.hub.retry import RetryPolicy
from lmsupply_cli.store.pull import plan_pull, run_pull

REPO = "someone/tiny"
MODEL = Path(__file__).parent.parent / "models" / "llama"
RAW = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
TEXTS = [
    "", "..", "../../x", "../../../../../../outside/x", "/etc/x", "C:\\x", "a\x00b", "\x1b]0;x\x07", "\x9b31m",
    "x" * 5000, "a\u202eb\u2066", "\ud800", "a\r\nX: y", "²",
]  # fmt: skip
TYPES: list[Any] = [None, True, 0, -1, 10**400, 1.5, float("inf"), [], ["x"], {}, {"a": [1]}]
Change = Callable[[Repo, Any], None]


def put(area: str, key: str) -> Change:
    return lambda repo, value: getattr(repo, area).update({key: value})


def card(key: str) -> Change:
    return lambda repo, value: repo.info.update({"cardData": {"license": "mit", key: value}})


def row(path: str, key: str) -> Change:
    return lambda repo, value: repo.rows.update({path: {key: value}})


def header(where: str, key: str) -> Change:
    return lambda repo, value: repo.headers.update({where: {key: str(value).replace("\r\n", "")}})


def lfs(repo: Repo, value: Any) -> None:
    repo.rows["model.onnx.data"] = {"lfs": {"oid": value, "size": 1}}


def config(*keys: str) -> Change:
    def change(repo: Repo, value: Any) -> None:
        whole = json.loads(repo.files["genai_config.json"])
        part = whole
        for key in keys[:-1]:
            part = part.setdefault(key, {})
        part[keys[-1]] = value
        repo.files["genai_config.json"] = json.dumps(whole).encode()

    return change


FIELDS: dict[str, Change] = {
    **{key: put("info", key) for key in ("sha", "id", "cardData")},
    **{f"cardData.{key}": card(key) for key in ("license", "license_name", "license_link")},
    "a list of licenses": lambda repo, value: repo.info.update({"cardData": {"license": ["mit", value]}}),
    **{f"row {key}": row("tokenizer.json", key) for key in ("path", "type", "oid", "size", "lfs")},
    "lfs.oid": lfs,
    **{f"config {keys[-1]}": config(*keys) for keys in (
        ("model", "decoder", "filename"), ("model", "type"), ("model", "decoder", "session_options"),
    )},
}  # fmt: skip
HEADERS: dict[str, Change] = {
    **{key: header("resolve", key) for key in ("Location", "X-Repo-Commit", "ETag", "X-Error-Code")},
    "Link": lambda repo, value: header("tree", "Link")(repo, f'<{value}>; rel="next"'),
    "cdn ETag": header("cdn", "ETag"),
}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    with local_hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


class Heard(ProgressListener):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def notice(self, notice: Notice) -> None:
        self.texts.append(notice.text)


def client() -> HubClient:
    return HubClient(Limits(2, 0.5, 2), RetryPolicy(sleep=lambda _: None))


def said_by_a_pull(root: Path) -> list[str]:
    """All texts that a pull gives to a person or a record. Only LmsupplyError may leave it."""
    heard = Heard()
    try:
        plan = plan_pull(REPO, root, client=client)
        manifest = run_pull(plan, root, client=client, listener=heard)
    except LmsupplyError as error:
        return [error.message, error.hint, *heard.texts]
    assert Path(root, manifest.folder).resolve().is_relative_to(root)
    record = [manifest.ref, manifest.repo, manifest.commit, manifest.variant, manifest.license, *manifest.files]
    return [*record, plan.license.id, plan.license.url, *heard.texts]


def surroundings(folder: Path, root: Path) -> dict[str, bytes]:
    outside = (path for path in folder.rglob("*") if not path.is_relative_to(root) and path.is_file())
    return {str(path): path.read_bytes() for path in outside}


@pytest.mark.parametrize("field", [*FIELDS, *HEADERS])
def test_no_field_leads_out_of_the_store_or_reaches_a_terminal_raw(hub: Hub, tmp_path: Path, field: str) -> None:
    change = (FIELDS | HEADERS)[field]
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "x").write_text("mine")
    before = surroundings(tmp_path, tmp_path / "none")
    values = [*TEXTS, str(tmp_path / "outside" / "x")] + (TYPES if field in FIELDS else [])
    for number, value in enumerate(values):
        root = tmp_path / "a" / "b" / "c" / "d" / "e" / f"store-{number}"
        hub.repos[REPO] = Repo({path.name: path.read_bytes() for path in MODEL.iterdir()})
        change(hub.repos[REPO], value)
        for text in said_by_a_pull(root):
            assert not RAW.search(text), (value, text)
            assert len(text) < 3000
        assert surroundings(tmp_path, tmp_path / "a") == before, value
        stray = [path for path in (tmp_path / "a").rglob("*") if path.is_file() and not path.is_relative_to(root)]
        assert [path for path in stray if not path.relative_to(root.parent).parts[0].startswith("store-")] == []


@pytest.mark.parametrize("name", ["Retry-After", "X-Error-Code", "Content-Range", "Location"])
@pytest.mark.parametrize(("where", "status"), [("info", 429), ("info", 404), ("resolve", 404), ("cdn", 206)])
def test_no_header_of_a_refusal_is_a_bug(hub: Hub, tmp_path: Path, name: str, where: str, status: int) -> None:
    for number, value in enumerate([*TEXTS, "1" * 400, "-5", "Thu, 99 Foo 2020", "bytes 5-1/x"]):
        hub.repos[REPO] = Repo({path.name: path.read_bytes() for path in MODEL.iterdir()})
        hub.faults = [Fault(where, "status", status=status, headers={name: value.replace("\r\n", "")})]
        for text in said_by_a_pull(tmp_path / f"store-{number}"):
            assert not RAW.search(text), (value, text)
