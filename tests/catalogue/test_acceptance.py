from __future__ import annotations

import json

from lmsupply_cli.catalogue.acceptance import accept, acceptance_file, is_accepted, read_acceptances
from lmsupply_cli.catalogue.entry import License


def test_what_was_accepted_under_schema_1_holds() -> None:
    row = {"ref": "x", "repo": "o/x", "licence": "own", "tier": "research", "revision": "a", "date": "2026-01-01"}
    old = acceptance_file().with_name("accepted-licences.json")
    old.parent.mkdir(parents=True)
    old.write_text(json.dumps({"schema": 1, "accepted": [row]}))
    assert is_accepted("o/x", "own")
    accept("y", "o/y", "b", License("other", "research"))
    assert [found.repo for found in read_acceptances()] == ["o/x", "o/y"]
    assert json.loads(acceptance_file().read_text())["schema"] == 2
