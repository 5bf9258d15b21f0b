"""The import of the file by the command, and the forms that it takes."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.real_model import Imports

from lmsupply_cli import TextGenerator
from lmsupply_cli.files import folder_bytes

FACTS = {
    "The capital of France is": " Paris",
    "The opposite of hot is": " cold",
    "The Great Wall of": " China",
    "The Earth revolves around the": " Sun",
}


def test_a_path_runs_and_is_imported_once(imports: Imports, tmp_path: Path) -> None:
    home = str(tmp_path / "home")
    question = ("Name the capital of Italy.", "--temperature", "0")
    first = imports.lmsupply("run", imports.gguf, *question, LMSUPPLY_HOME=home)
    assert (first.code, first.out) == (0, "The capital of Italy is Rome.\n")
    assert "imported" in first.err
    again = imports.lmsupply("run", imports.gguf, *question, LMSUPPLY_HOME=home)
    assert (again.code, again.out, again.err) == (0, first.out, "")


def test_what_is_known_of_an_import(imports: Imports) -> None:
    folder = imports.folder("exact")
    shown = imports.lmsupply("show", "exact", "--json").json
    assert shown["path"] == str(folder)
    assert shown["license"]["id"] == "Apache-2.0"
    assert imports.lmsupply("verify", "exact").code == 0


@pytest.mark.parametrize("model", ["exact", "int4", "int8", "fp32"], indirect=True)
def test_every_form_answers(model: TextGenerator) -> None:
    assert {fact: model.generate(fact, raw=True, max_tokens=1).text for fact in FACTS} == FACTS


def test_the_sizes_of_the_forms(imports: Imports) -> None:
    exact, int4, int8, fp32 = (folder_bytes(imports.folder(form)) for form in ("exact", "int4", "int8", "fp32"))
    assert imports.gguf.stat().st_size < exact < 1.4 * imports.gguf.stat().st_size
    assert int4 < 0.85 * int8
    assert int8 < 0.35 * fp32
