"""Which licenses may be used: what the user accepted, and the settings allowed_licenses and allowed_tiers."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cli import lmsupply
from support.hub import Hub, Repo, local_hub

from lmsupply_cli import LicenseNotAccepted, ModelStore, load

MODELS = Path(__file__).parent.parent / "models"
LLAMA = "onnx-community/Llama-3.2-1B-Instruct-GENAI-ONNX"
ASK = ("run", "-m", "llama-3.2-1b", "--max-tokens", "1", "hi")


def files(folder: str) -> dict[str, bytes]:
    found = {f"{folder}/{path.name}": path.read_bytes() for path in (MODELS / "llama").iterdir()}
    found[f"{folder}/model.onnx.data"] += random.Random(2).randbytes(10)
    return found


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with local_hub() as hub:
        hub.repos[LLAMA] = Repo(files("cpu_and_mobile/cpu-int4-rtn-block-32-acc-level-4"), license="llama3.2")
        hub.repos["a/odd"] = Repo(files("cpu-int4"), license="")
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


def test_a_model_whose_acceptance_was_revoked_is_not_used(hub: Hub) -> None:
    lmsupply("pull", "-q", "llama-3.2-1b", "--accept-license")
    assert lmsupply(*ASK).code == 0
    lmsupply("licenses", "--revoke", "llama-3.2-1b")
    refused = lmsupply(*ASK)
    assert (refused.code, refused.out) == (5, "")
    assert refused.err.startswith("error: the license of llama-3.2-1b is not accepted: Llama-3.2 (conditional): ")
    assert refused.err.endswith("then rerun with --accept-license\n")
    for ref in ("llama-3.2-1b", ModelStore().get("llama-3.2-1b")):
        with pytest.raises(LicenseNotAccepted, match="is not accepted") as error:
            load(ref)  # type: ignore[arg-type]
        assert error.value.hint.endswith("lmsupply pull llama-3.2-1b --accept-license")
    drafted = lmsupply("run", "-m", "guide", "--speculative", "draft:llama-3.2-1b", "hi")
    assert drafted.code in (2, 5)
    assert lmsupply(*ASK, "--accept-license").code == 0
    assert lmsupply(*ASK).code == 0, "recorded again"
    assert lmsupply("verify", "llama-3.2-1b").code == 0


def test_the_path_of_a_model_is_under_its_license(hub: Hub, tmp_path: Path) -> None:
    """Whatever it is called: there is no way around an acceptance, or a rule."""
    lmsupply("pull", "-q", "llama-3.2-1b", "--accept-license")
    path = ModelStore().get("llama-3.2-1b").path
    assert lmsupply("run", "-m", path, "--max-tokens", "1", "hi").code == 0
    lmsupply("licenses", "--revoke", "llama-3.2-1b")
    link = tmp_path / "link"
    link.symlink_to(path)
    for name in (path, link):
        assert lmsupply("run", "-m", name, "--max-tokens", "1", "hi").code == 5
        added = lmsupply("add", name, "sneaky")
        assert (added.code, "is already known as llama-3.2-1b" in added.err) == (2, True)
        with pytest.raises(LicenseNotAccepted):
            load(name)
    assert "is not accepted" in lmsupply("use", "llama-3.2-1b").err
    lmsupply("pull", "-q", "llama-3.2-1b", "--accept-license")
    rule = {"LMSUPPLY_ALLOWED_TIERS": "permissive,unknown"}
    assert lmsupply("run", "-m", path, "--max-tokens", "1", "hi", **rule).code == 5


def test_a_folder_of_another_program_is_not_added(hub: Hub, tmp_path: Path) -> None:
    place = tmp_path / "hf" / f"models--{LLAMA.replace('/', '--')}" / "snapshots" / ("c" * 40)
    shutil.copytree(MODELS / "llama", place)
    added = lmsupply("add", place, "sneaky", HF_HUB_CACHE=str(tmp_path / "hf"))
    assert (added.code, "is already known as " in added.err) == (2, True)


def test_an_acceptance_under_an_older_name_of_the_license_counts(hub: Hub) -> None:
    lmsupply("pull", "-q", "llama-3.2-1b", "--accept-license")
    (record,) = Path(os.environ["LMSUPPLY_HOME"]).rglob("accepted-licenses.json")
    record.write_text(record.read_text().replace('"Llama-3.2"', '"llama3.2"'))
    assert lmsupply(*ASK).code == 0


def test_an_offline_pull_of_another_variant_is_no_success(hub: Hub) -> None:
    lmsupply("pull", "-q", "llama-3.2-1b", "--accept-license")
    assert lmsupply("pull", "llama-3.2-1b", "--offline").code == 0
    for more in (("--variant", "cuda-fp16"), ("--precision", "fp16"), ("--dry-run",)):
        assert lmsupply("pull", "llama-3.2-1b", "--offline", *more).code == 3
    assert lmsupply("pull", "llama-3.2-1b", "--offline", "--json").json["type"] == "finished"


def test_an_extra_file_of_a_pulled_model_is_to_be_deleted(hub: Hub) -> None:
    lmsupply("pull", "-q", "llama-3.2-1b", "--accept-license")
    (ModelStore().get("llama-3.2-1b").path / "vocab.json").write_text("{}")
    found = lmsupply("verify")
    assert (found.code, "vocab.json: not part of the model: delete it" in found.out) == (1, True)
    assert "--repair" not in found.err


def test_the_terms_are_those_of_the_hub_in_use(hub: Hub) -> None:
    refused = lmsupply("pull", "a/odd")
    assert refused.code == 5
    assert f"Read it at {hub.url}/a/odd, then" in refused.err


def test_folders_of_the_user_need_no_acceptance() -> None:
    assert lmsupply("add", MODELS / "llama", "mine").code == 0
    assert lmsupply("run", "-m", "mine", "--max-tokens", "1", "hi").code == 0


def test_what_is_not_allowed_is_neither_recommended_nor_used(hub: Hub, tmp_path: Path) -> None:
    rule = {"LMSUPPLY_ALLOWED_LICENSES": "Apache-2.0"}
    said = "LMSUPPLY_ALLOWED_LICENSES allows only Apache-2.0"
    lmsupply("pull", "-q", "llama-3.2-1b", "--accept-license")
    hw = lmsupply("hw", "--models", **rule)
    assert f"{said}; other models are left out" in hw.out
    assert "phi-" not in hw.out
    assert lmsupply("hw", "--json", **rule).json["recommendation"]["model"].startswith("qwen3-")
    models = lmsupply("models", **rule)
    assert models.err == f"note: {said}; other models are left out\n"
    assert "phi-" not in models.out
    assert "Llama-3.2 (not allowed)" in models.out
    rows = lmsupply("models", "--json", **rule).json["models"]
    assert {row["ref"] for row in rows if not row["allowed"]} == {"guide", "llama-3.2-1b"}
    folder = Path(shutil.copytree(MODELS / "llama", tmp_path / "mine"))
    for words in (("use", "llama-3.2-1b"), ASK, ("add", folder), ("run", "-m", folder, "hi"), ("run", "hi")):
        refused = lmsupply(*words, **rule)
        assert refused.code == 5
        assert f", and {said}\n" in refused.err
    assert lmsupply("use").out == "llama-3.2-1b (the only installed model)\n"
    assert "\nnot allowed " in lmsupply("show", "llama-3.2-1b", **rule).out
    assert "license not allowed" in lmsupply("search", "llama", **rule).out


def test_roles_and_defaults_keep_to_what_is_allowed(hub: Hub) -> None:
    rule = {"LMSUPPLY_ALLOWED_LICENSES": "MIT"}
    assert "phi-4-mini is not installed" in lmsupply("run", "-m", "role:default", "hi", **rule).err
    none = lmsupply("run", "-m", "role:fast", "hi", **rule)
    assert (none.code, none.err.splitlines()[0]) == (
        5, "error: no model with role:fast has a license that is allowed",
    )  # fmt: skip
    assert "none: no model with role:default" in lmsupply("hw", LMSUPPLY_ALLOWED_LICENSES="Gemma").out
    lmsupply("pull", "-q", "llama-3.2-1b", "--accept-license")
    lmsupply("add", MODELS / "llama", "mine")
    lmsupply(*ASK)
    bare = lmsupply("run", "--max-tokens", "1", "hi", LMSUPPLY_ALLOWED_TIERS="unknown")
    assert bare.err.startswith("note: using mine, the only installed model that is allowed\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("allowed_tiers", "frob"), "must be one of permissive, conditional, research, unknown, not 'frob'"),
        (("allowed_tiers", "permissive", "frob"), "not 'frob'"),
        (("allowed_licenses", "permissive"), "permissive is a license tier, not a license"),
        (("allowed_licenses", ""), "none of them empty"),
    ],
)
def test_rules_that_mean_nothing_are_refused(words: tuple[str, ...], said: str) -> None:
    result = lmsupply("config", "set", *words)
    assert result.code == 2
    assert said in result.err
    assert not (Path(os.environ["LMSUPPLY_HOME"]) / "config" / "config.toml").exists()


def test_commas_separate_names_and_a_strange_license_gets_a_note() -> None:
    assert lmsupply("config", "set", "allowed_tiers", "permissive,conditional").code == 0
    assert lmsupply("config", "get", "allowed_tiers").out == "permissive, conditional\n"
    strange = lmsupply("config", "set", "allowed_licenses", "MIT,apache2")
    assert "note: no model in the catalogue has the license apache2; did you mean Apache-2.0?" in strange.err
    assert lmsupply("config", "get", "allowed_licenses").out == "MIT, apache2\n"
    assert lmsupply("config", "set", "stop", "a,b").code == 0
    assert lmsupply("config", "get", "stop", "--json").json["value"] == ["a,b"]
