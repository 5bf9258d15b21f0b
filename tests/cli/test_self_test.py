"""`lmsupply serve --self-test`."""

from __future__ import annotations

from support.cli import lmsupply

from lmsupply_cli.server.conformance.run import all_checks


def test_this_server_keeps_what_its_apis_promise() -> None:
    result = lmsupply("serve", "--self-test", "--json")
    rows = result.json["checks"]
    assert [row for row in rows if row["outcome"] != "pass"] == []
    assert len(rows) == len(all_checks())
    assert result.code == 0
    assert result.err.endswith(f"model guide: {len(rows)} passed\n")


def test_a_server_that_is_not_there() -> None:
    result = lmsupply("serve", "--self-test", "--url", "http://127.0.0.1:9")
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("error: http://127.0.0.1:9 does not answer: ")


def test_options_that_the_test_does_not_use_are_refused() -> None:
    for option in (("--context", "100"), ("--port", "1"), ("--cors", "http://a.example")):
        result = lmsupply("serve", "--self-test", *option)
        assert (result.code, result.err.splitlines()[0]) == (
            2,
            f"error: --self-test can't be combined with {option[0]}",
        )
    assert lmsupply("serve", "--url", "http://127.0.0.1:9").err.startswith("error: --url and --json need --self-test")
    assert lmsupply("serve", "--self-test", "guide", "guide").code == 2
