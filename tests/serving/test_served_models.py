"""What can be asked for, by which names, and what is told of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lmsupply_cli import ModelNotFound, ModelNotInstalled, ModelStore, paths
from lmsupply_cli.serving.served_models import FoundModel, ServedModels

MODELS = Path(__file__).parent.parent / "models"


def find(name: str, models: ServedModels | None = None, *, free: int = 10**12) -> FoundModel:
    return (models or ServedModels()).find(name, lambda: free)


def test_the_guide() -> None:
    (guide,) = ServedModels().all()
    assert find("GUIDE").row == guide.row
    row = guide.row
    assert (row.ref, row.context_length, row.family, row.license, row.precision) == (
        "guide",
        1024,
        "guide",
        "MIT",
        "int4",
    )
    assert (row.tools, row.thinking, row.loaded) == (False, False, False)
    assert row.size_bytes > 10**6
    assert row.modified > 10**9
    assert len(row.digest) == 64
    assert int(row.digest, 16)


def test_a_model_of_the_store() -> None:
    ModelStore().add(MODELS / "llama", "mine")
    models = ServedModels()
    assert [found.row.ref for found in models.all()] == ["guide", "mine"]
    found = find("Mine", models)
    assert found == models.all()[1]
    assert (found.load_name, found.row.family, found.row.license) == ("mine", "llama", "unknown")
    assert found.row.size_bytes > 1000
    assert found.row.digest != models.all()[0].row.digest


def test_changes_of_the_store_are_seen() -> None:
    models = ServedModels()
    with pytest.raises(ModelNotFound):
        find("mine", models)
    ModelStore().add(MODELS / "llama", "mine")
    assert find("mine", models).row.ref == "mine"
    assert len(models.all()) == 2
    assert models.all() is models.all(), "read once"
    ModelStore().remove("mine")
    with pytest.raises(ModelNotFound):
        find("mine", models)
    assert len(models.all()) == 1


def test_two_names_of_one_folder() -> None:
    for name in ("one", "two"):
        ModelStore().add(MODELS / "llama", name)
    models = ServedModels()
    assert [found.row.ref for found in models.all()] == ["guide", "one", "two"]
    assert find("one", models).key == find("two", models).key, "one process"
    assert find("two", models).row.ref == "two"


def test_a_folder_that_is_gone_or_broken(tmp_path: Path) -> None:
    for name in ("gone", "broken"):
        folder = tmp_path / name
        folder.mkdir()
        for file in (MODELS / "llama").iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        ModelStore().add(folder, name)
        (folder / "genai_config.json").unlink()
    assert [found.row.ref for found in ServedModels().all()] == ["guide"]
    with pytest.raises(Exception, match=r"contains no genai_config\.json") as caught:
        find("broken")
    assert type(caught.value).__name__ == "ModelFilesError"


@pytest.mark.parametrize(
    "name",
    [
        str(MODELS / "llama"),
        "./llama",
        "../llama",
        "~",
        "~/models",
        "/etc/passwd",
        "llama/",
        ".",
        "..",
        "",
        "\\\\host\\share",
        "C:\\models",
        "file:///etc",
        "ollama:llama3",
        "hf:owner/repo",
        "a\0b",
        "x" * 100_000,
        "\ud800",
    ],
)
def test_no_path_leads_anywhere(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(MODELS)
    with pytest.raises(ModelNotFound) as caught:
        find(name)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("name", ["models/llama", "phi-4", "owner/repo@v1:cpu", "role:fast"])
def test_what_is_not_installed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(MODELS.parent)
    with pytest.raises(ModelNotInstalled) as caught:
        find(name)
    assert caught.value.hint.startswith("lmsupply pull ")


def test_models_of_other_programs_are_not_touched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    home = tmp_path / "hub" / "models--owner--repo" / "snapshots" / ("a" * 40)
    home.mkdir(parents=True)
    for file in (MODELS / "llama").iterdir():
        (home / file.name).write_bytes(file.read_bytes())
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    assert ModelStore().get("owner/repo").external
    with pytest.raises(ModelNotInstalled):
        find("owner/repo")
    assert len(ServedModels().all()) == 1


def test_a_role_is_the_model_for_the_memory() -> None:
    with pytest.raises(ModelNotInstalled, match="phi-4-mini"):
        find("role:default")
    with pytest.raises(ModelNotInstalled, match=r"qwen3-0\.6b"):
        find("role:default", free=1)


def test_capabilities(tmp_path: Path) -> None:
    def like(name: str, template: str) -> FoundModel:
        folder = tmp_path / name
        folder.mkdir()
        for file in (MODELS / "qwen2").iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        (folder / "chat_template.jinja").write_text(template)
        ModelStore().add(folder, name)
        return find(name)

    plain = like("plain", "{% for m in messages %}{{ m.content }}{% endfor %}").row
    assert (plain.tools, plain.thinking) == (False, False)
    hermes = like("hermes", '<tool_call> {{ "\\"arguments\\": " }} {% if enable_thinking %}<think>{% endif %}').row
    assert (hermes.tools, hermes.thinking) == (True, True)


def test_no_engine_is_imported() -> None:
    program = (
        "import sys\nfrom lmsupply_cli.serving.served_models import ServedModels\n"
        "ServedModels().all(); ServedModels().find('guide', lambda: 0)\n"
        "print([m for m in ('numpy', 'onnxruntime_genai', 'tokenizers', 'llguidance', 'jinja2') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=dict(os.environ), check=True
    )
    assert done.stdout == "[]\n"
    assert paths.store_root()
