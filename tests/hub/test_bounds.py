"""Every answer of a Hub has an end: pages, redirects, bytes, seconds, waits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from support.hub import Fault, Hub, Repo, local_hub

from lmsupply_cli.errors import HubError, ModelNotFound
from lmsupply_cli.events import Notice, ProgressListener
from lmsupply_cli.hub.answers import Unlike, read_info, read_rows
from lmsupply_cli.hub.client import HubClient, Limits
from lmsupply_cli.hub.licenses import strictest
from lmsupply_cli.hub.retry import RetryPolicy
from lmsupply_cli.hub.tree import is_safe_path

REPO = "someone/tiny"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with local_hub() as hub:
        hub.repos[REPO] = Repo({"genai_config.json": b"{}", **{f"file-{n}": b"x" for n in range(7)}})
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


def client(waits: list[float] | None = None, *, jump_s: float = 0, **limits: float) -> HubClient:
    """`jump_s`: what the clock gains each time that somebody looks at it."""
    seconds = iter(range(10**9))
    quick: dict[str, Any] = {"connect_s": 2, "silence_s": 0.5, "call_s": 2} | limits
    policy = RetryPolicy(sleep=(waits if waits is not None else []).append)
    return HubClient(Limits(**quick), policy, clock=lambda: next(seconds) * jump_s)


@pytest.mark.parametrize(
    ("fault", "said", "requests"),
    [
        (Fault("info", "circle", times=99), "redirects in circles", 1),
        (Fault("info", "hops", times=99), "redirects in circles", 6),
        (Fault("resolve", "circle", times=99), "redirects in circles", 4),
        (Fault("info", "status", status=302), "redirects without saying where to", 1),
        (
            Fault("info", "status", status=302, headers={"Location": "http://[::1"}),
            "redirects to an invalid URL",
            1,
        ),
        (Fault("info", "status", status=302, headers={"Location": "ftp://x/y"}), "redirects to an invalid URL", 1),
        (Fault("info", "status", status=302, headers={"Location": "http://else.invalid/"}), "to another host", 1),
        (Fault("info", "endless", times=99), "longer than 1,000,000 bytes", 1),
        (Fault("tree", "endless", times=99), "longer than 1,000,000 bytes", 2),
        (Fault("tree", "same_page", times=99), "its listing goes in circles", 3),
        (Fault("tree", "new_pages", times=99), "its listing has more than 4 pages", 5),
        (Fault("info", "body", body=b"[" * 100_000), "nested too deeply", 1),
        (Fault("info", "body", body=b'{"sha": 1' + b"0" * 5000 + b"}"), "a number is too long", 1),
        (Fault("info", "body", body=b"\xff"), "not text in UTF-8", 1),
    ],
    ids=lambda value: f"{value.where}-{value.kind}" if isinstance(value, Fault) else None,
)
def test_what_has_no_end_or_no_sense_ends_at_once(hub: Hub, fault: Fault, said: str, requests: int) -> None:
    hub.faults = [Fault(**vars(fault))]
    waits: list[float] = []
    with client(waits, answer_bytes=1_000_000, pages=4) as there, pytest.raises(HubError, match=said) as caught:
        there.fetch_tree(REPO)
    assert caught.value.hint
    assert waits == []
    assert len(hub.requests) == requests


def test_an_answer_that_comes_too_slowly_is_given_up(hub: Hub) -> None:
    waits: list[float] = []
    with client(waits, jump_s=10, call_s=5) as there, pytest.raises(HubError, match="did not finish its answer in 5 s"):
        there.fetch_tree(REPO)
    assert len(waits) == 5


def test_a_file_that_comes_too_slowly_is_given_up(hub: Hub) -> None:
    hub.repos[REPO].files["genai_config.json"] = json.dumps({"a": "x" * 1000}).encode()
    with (
        client(jump_s=100, call_s=10**9, slow_bytes=10**6) as there,
        pytest.raises(HubError, match="which is too slow"),
    ):
        there.fetch_tree(REPO)


def test_a_small_file_that_is_too_short_is_fetched_again(hub: Hub) -> None:
    hub.faults = [Fault("resolve", "short", "genai_config.json", after=1)]
    waits: list[float] = []
    with client(waits) as there:
        assert there.fetch_tree(REPO).configs == {"genai_config.json": "{}"}
    assert waits == [1]


@pytest.mark.parametrize(
    ("asked", "wait"),
    [("7", 7), ("1000000000", 120), ("9" * 400, 1), ("-1", 1), ("²", 1), ("soon", 1), ("nan", 1),
     ("Fri, 31 Dec 9999 23:59:59 GMT", 120), ("Thu, 01 Jan 1970 00:00:00 GMT", 0)],
)  # fmt: skip
def test_what_a_server_asks_to_wait_has_a_limit(hub: Hub, asked: str, wait: float) -> None:
    hub.faults = [Fault("info", "status", status=429, headers={"Retry-After": asked})]
    waits: list[float] = []
    with client(waits) as there:
        there.fetch_tree(REPO)
    assert waits == [wait]


def test_a_long_wait_is_said(hub: Hub) -> None:
    texts: list[str] = []

    class Heard(ProgressListener):
        def notice(self, notice: Notice) -> None:
            texts.append(notice.text)

    hub.faults = [Fault("info", "status", status=429, headers={"Retry-After": text}) for text in ("2", "50")]
    with client() as there:
        there.tell(Heard())
        there.fetch_tree(REPO)
    assert texts == [f"{hub.url.removeprefix('http://')} answered 429; trying again in 50 s"]


def test_a_file_that_is_missing_is_not_a_model_that_is_missing(hub: Hub) -> None:
    hub.faults = [Fault("resolve", "status", "genai_config.json", status=404)]
    with client() as there, pytest.raises(HubError, match=r"has no file genai_config\.json any more") as caught:
        there.fetch_tree(REPO)
    assert not isinstance(caught.value, ModelNotFound)


def test_a_repo_is_called_what_the_hub_calls_it(hub: Hub) -> None:
    with client() as there:
        assert there.fetch_tree("Someone/TINY").repo == REPO


SHA = "a" * 40


@pytest.mark.parametrize(
    ("card", "license"),
    [
        (None, ""), ({}, ""), ({"license": "mit"}, "mit"), ({"license": []}, ""),
        ({"license": ["mit", "apache-2.0"]}, "mit"), ({"license": ["mit", "cc-by-nc-4.0", "gemma"]}, "cc-by-nc-4.0"),
        ({"license": ["mit", "own"]}, "own"), ({"license": "other", "license_name": "llama3.2"}, "llama3.2"),
        ({"license": "cc-by-nc-4.0", "license_name": "mit"}, "cc-by-nc-4.0"), ({"license": "other"}, "other"),
        ({"license": "\x1b]0;x\x07"}, "\\x1b]0;x\\x07"),
    ],
)  # fmt: skip
def test_the_strictest_license_of_a_card_counts(card: Any, license: str) -> None:
    assert read_info({"sha": SHA, "cardData": card}, REPO).license == license


def test_the_strictest_of_none() -> None:
    assert strictest([]) == ""


@pytest.mark.parametrize(
    ("answer", "key"),
    [
        ([], "the answer is a list"), ({}, "sha is missing"), ({"sha": "A" * 40}, "sha is 'AAAA"),
        ({"sha": SHA, "cardData": "text"}, "cardData is 'text'"), ({"sha": SHA, "cardData": []}, "cardData is a list"),
        ({"sha": SHA, "cardData": {"license": 1}}, "cardData.license is 1"),
        ({"sha": SHA, "cardData": {"license": [1]}}, "cardData.license is a list"),
        ({"sha": SHA, "cardData": {"license_link": True}}, "cardData.license_link is True"),
        ({"sha": SHA, "id": 1}, "id is 1"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_an_answer_is_named(answer: Any, key: str) -> None:
    with pytest.raises(Unlike) as caught:
        read_info(answer, REPO)
    assert str(caught.value).startswith(key)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"path": 1}, "path is 1"), ({"type": 1}, "type is 1"), ({"size": -1}, "size of a is -1"),
        ({"size": True}, "size of a is True"), ({"size": 10**400}, "size of a is 1000"), ({"size": None}, "size of a is"),
        ({"oid": "../x"}, "oid of a is '../x'"), ({"oid": ""}, "oid of a is ''"), ({"lfs": "x"}, "lfs of a is 'x'"),
        ({"lfs": {}}, "lfs.oid of a is missing"), ({"lfs": {"oid": SHA}}, "lfs.oid of a is 'aaa"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_row_is_named(change: dict[str, Any], key: str) -> None:
    with pytest.raises(Unlike) as caught:
        read_rows([{"type": "file", "path": "a", "size": 1, "oid": SHA} | change])
    assert str(caught.value).startswith(key)


@pytest.mark.parametrize("path", ["a\x1bb", "a\x9bb", "a\u202eb", "a\u2066b", "a\u200fb", "\ud800", "x/" + "y" * 256,
                                  "é" * 128, "x/" * 600 + "y", "a\nb", "CONIN$", "nul .txt"])  # fmt: skip
def test_a_path_that_steers_a_terminal_or_is_too_long_is_not_safe(path: str) -> None:
    assert not is_safe_path(path)
