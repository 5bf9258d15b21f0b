from __future__ import annotations

from pathlib import Path

import pytest

from lmsupply_cli.addresses import host_of, origin, parse_address, without_user
from lmsupply_cli.errors import LmsupplyError
from lmsupply_cli.foreign import plain
from lmsupply_cli.store.locate import RepoRef, locate, parse_repo
from lmsupply_cli.store.pull import plan_pull

REPO = RepoRef("owner/repo")


@pytest.mark.parametrize(
    ("typed", "ref"),
    [
        ("https://huggingface.co/owner/repo", REPO), ("http://hf.co/owner/repo/", REPO), ("hf.co/owner/repo", REPO),
        ("HTTPS://HuggingFace.co/owner/repo", REPO), ("www.huggingface.co/owner/repo?a=b#c", REPO),
        ("https://me:hf_x@huggingface.co/owner/repo.git", REPO), ("owner/repo/", REPO), (" owner/repo ", REPO),
        ("https://huggingface.co/owner/repo/tree/main", REPO), ("https://huggingface.co/owner/repo/discussions/3", REPO),
        ("https://huggingface.co/owner/repo/tree/main/", REPO),
        ("https://huggingface.co/owner/repo/tree/v1.0", RepoRef("owner/repo", "v1.0")),
        ("https://huggingface.co/owner/repo/tree/refs%2Fpr%2F1/cpu", RepoRef("owner/repo", "refs/pr/1", "cpu")),
        ("https://huggingface.co/owner/repo/tree/main/cpu/cpu-int4", RepoRef("owner/repo", None, "cpu/cpu-int4")),
        ("https://huggingface.co/owner/repo/blob/main/cpu/genai_config.json", RepoRef("owner/repo", None, "cpu")),
        ("https://huggingface.co/owner/repo/blob/main/README.md", REPO),
        ("hf.co/owner/repo@v1:cpu/cpu-int4", RepoRef("owner/repo", "v1", "cpu/cpu-int4")),
        ("https://mirror.example:8080/owner/repo", REPO),
        ("huggingface.co/owner", None), ("https://huggingface.co/datasets/owner/repo", None),
        ("https://elsewhere.example/owner/repo", None), ("https://huggingface.co/../../x", None),
        ("a/..b", None), ("a/b--c", None), ("a--b/c", None), ("a/b@../x", None), ("a/b:x--y", RepoRef("a/b", None, "x--y")),
        ("a/" + "b" * 97, None), ("ä/b", None),
    ],
)  # fmt: skip
def test_a_repo_is_the_same_however_it_was_typed(
    monkeypatch: pytest.MonkeyPatch, typed: str, ref: RepoRef | None
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.example:8080")
    assert parse_repo(typed) == ref


def test_an_address_and_what_is_secret_of_it() -> None:
    address = parse_address("http://me:p%40ss@Host:80/base/?a=b")
    assert (address.url, address.user, address.password) == ("http://host:80/base", "me", "p@ss")
    assert parse_address("https://[::1]:8/").url == "https://[::1]:8"
    assert host_of("http://me:secret@host:80/x") == "host:80"
    assert host_of("http://h:me/secret@x") == "an invalid URL"
    assert origin("https://h/x") == origin("https://me@h:443/y")
    assert origin("http://h/x") != origin("https://h/x")


@pytest.mark.parametrize("host", ["huggingface.co", "elsewhere.example"])
def test_a_password_that_was_pasted_with_an_address_is_not_repeated(tmp_path: Path, host: str) -> None:
    typed = f"https://me:secret@{host}/owner/repo"
    assert without_user(typed) == f"https://{host}/owner/repo"
    for act in (lambda: locate(typed, tmp_path), lambda: plan_pull(typed, tmp_path, offline=True)):
        with pytest.raises(LmsupplyError) as caught:
            act()
        assert "secret" not in caught.value.message + caught.value.hint


def test_foreign_text_on_a_line() -> None:
    assert plain("größer 日本") == "größer 日本"
    assert plain("\x1b[1m\x9b\u202e\ud800\n") == "\\x1b[1m\\x9b\\u202e\\ud800\\x0a"
    assert plain("x" * 300) == "x" * 200 + "…"
