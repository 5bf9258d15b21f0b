"""Roles stand for the best model that fits, by rules that the lists keep."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmsupply_cli.catalogue.lookup import entries_of_role, find_entry, read_catalogue
from lmsupply_cli.catalogue.roles import ROLES, Role, role_name
from lmsupply_cli.errors import ModelNotFound
from lmsupply_cli.loading.recommend import expected_variant, recommend_model
from lmsupply_cli.memory.rough import needed_bytes
from lmsupply_cli.paths import config_dir


def needs(ref: str) -> int:
    entry = find_entry(ref)
    assert entry is not None
    resolution = expected_variant(entry)
    assert resolution is not None
    return needed_bytes(entry, resolution.chosen.size_bytes)


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_the_list_of_a_role_keeps_the_rules(role: Role) -> None:
    entries = entries_of_role(role.name)
    assert [entry.ref for entry in entries] == list(role.refs)
    assert all(entry.license.tier == "permissive" and "layout" not in entry.uncertain for entry in entries)
    sizes = [needs(ref) for ref in role.refs]
    assert sizes == sorted(set(sizes), reverse=True)
    assert role.help
    assert all(role.name in entry.roles for entry in entries)


def test_the_first_that_fits_is_taken_with_a_margin() -> None:
    need = needs("qwen3-4b")
    assert recommend_model(int(need * 1.2)).entry.ref == "qwen3-4b"
    assert recommend_model(need).entry.ref == "qwen3-1.7b"
    assert recommend_model(0, "quality").entry.ref == "qwen3-1.7b"
    assert "smallest" in recommend_model(0).reason


def test_an_unknown_role_is_told_with_those_there_are() -> None:
    with pytest.raises(ModelNotFound, match="unknown role 'smart'") as caught:
        entries_of_role("smart")
    assert all(f"role:{role.name}" in caught.value.hint for role in ROLES)


def test_a_role_is_no_entry_and_a_prompt_is_no_role() -> None:
    assert find_entry("Role:Quality") is None
    assert role_name("Role:Quality") == "quality"
    assert role_name("role: you translate") == ""


def test_the_users_own_entry_goes_first_and_may_have_a_role_of_its_own() -> None:
    file: Path = config_dir() / "models.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(
        "[[model]]\n"
        'ref = "mine"\nrepo = "me/mine"\nfamily = "x"\nlicense = "MIT"\nparameters = 1.0\ncontext_length = 4096\n'
        'roles = ["default", "poetry"]\nlayers = 1\nkv_heads = 1\nhead_size = 8\nvariants = { "cpu-int4" = 1000 }\n'
    )
    assert read_catalogue()[1].ref == "mine"
    assert recommend_model(10**9).entry.ref == "mine"
    assert recommend_model(10**9, "poetry").entry.ref == "mine"
