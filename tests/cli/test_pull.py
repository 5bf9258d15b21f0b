"""From the Hub to an answer, over real HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cli import lmsupply
from support.hub import Hub, Repo, local_hub

MODELS = Path(__file__).parent.parent / "models"
PHI = "microsoft/Phi-3.5-mini-instruct-onnx"
CPU, GPU = "cpu_and_mobile/cpu-int4-awq-block-128-acc-level-4", "gpu/gpu-int4-awq-block-128"


def files(folder: str, model: str = "phi3") -> dict[str, bytes]:
    return {f"{folder}/{path.name}".lstrip("/"): path.read_bytes() for path in (MODELS / model).iterdir()}


@pytest.fixture
def hub() -> Iterator[Hub]:
    with local_hub() as hub:
        hub.repos[PHI] = Repo(files(CPU) | files(GPU) | {"README.md": b"# Phi", "config.json": b"{}"})
        yield hub


def test_the_whole_road(hub: Hub) -> None:
    environ = {"HF_ENDPOINT": hub.url}
    before = lmsupply("run", "-m", "phi-3.5", "hello")
    assert (before.code, before.out) == (3, "")
    assert before.err == "error: phi-3.5 is not installed\nhint: lmsupply pull phi-3.5\n"
    pulled = lmsupply("pull", "phi-3.5", **environ)
    assert (pulled.code, pulled.out) == (0, "")
    assert CPU in pulled.err
    assert "licence MIT (permissive)" in pulled.err
    assert not any("gpu-int4" in request for request in hub.requests)
    asked = len(hub.requests)
    answer = lmsupply("run", "phi-3.5", "--json", "--max-tokens", "3", "hello", **environ)
    assert answer.code == 0
    assert answer.json["model"] == {
        "ref": "phi-3.5", "repo": PHI, "commit": hub.repos[PHI].commit, "variant": CPU, "provider": "cpu", "precision": "int4",
    }  # fmt: skip
    shown = lmsupply("run", "phi-3.5", "--show-prompt", "hello", **environ)
    assert shown.out == "<|user|>\nhello<|end|>\n<|assistant|>\n"
    assert len(hub.requests) == asked, "an installed model needs no request"
    listed = lmsupply("models", "--installed", "-q")
    assert listed.out == "guide\nphi-3.5\n"
    bare = lmsupply("run", "--max-tokens", "2", "hello")
    assert "using phi-3.5, the largest installed model" in bare.err


def test_a_variant_and_a_repo_outside_the_catalogue(hub: Hub) -> None:
    hub.repos["someone/tiny"] = Repo(files("", "llama"), licence="apache-2.0")
    assert lmsupply("pull", "someone/tiny", HF_ENDPOINT=hub.url).code == 0
    assert lmsupply("run", "someone/tiny", "--max-tokens", "2", "hello").code == 0
    chosen = lmsupply("pull", f"{PHI}:gpu", HF_ENDPOINT=hub.url)
    assert chosen.code == 0
    assert lmsupply("run", "-m", f"{PHI}:gpu", "--max-tokens", "2", "hello", "--json").json["model"]["variant"] == GPU
    two = lmsupply("pull", f"{PHI}:int4", HF_ENDPOINT=hub.url)
    assert two.code == 2
    assert "2 variants match" in two.err


def test_terms_are_accepted_by_the_user_or_not_at_all(hub: Hub) -> None:
    repo = "onnx-community/Llama-3.2-1B-Instruct-GENAI-ONNX"
    hub.repos[repo] = Repo(files("", "llama"), licence="llama3.2")
    hub.repos["someone/odd"] = Repo(files("", "llama"), licence="")
    refused = lmsupply("pull", "llama-3.2-1b", HF_ENDPOINT=hub.url)
    assert refused.code == 5
    assert "Built with Llama" in refused.err
    assert "--accept-license" in refused.err
    assert lmsupply("pull", "someone/odd", HF_ENDPOINT=hub.url).code == 5
    assert lmsupply("models", "--installed", "-q").out == "guide\n"
    assert lmsupply("pull", "llama-3.2-1b", "--accept-license", HF_ENDPOINT=hub.url).code == 0
    allowed = lmsupply("run", "llama-3.2-1b", "hello", LMSUPPLY_ALLOWED_TIERS="permissive")
    assert allowed.code == 5
    assert "allowed_tiers allows only permissive" in allowed.err


@pytest.mark.parametrize(
    ("name", "repo", "code", "said"),
    [
        ("none/such", None, 1, "has no model none/such"),
        ("a/b", Repo({}, fault=500), 1, "cannot fetch from http://127.0.0.1"),
        ("a/b", Repo({}, fault=403, error_code="GatedRepo"), 5, "gated"),
        ("a/b@old", Repo({"genai_config.json": b"{}"}), 1, "no such revision"),
        ("a/b", Repo({"onnx/model_q4f16.onnx": b"x", "config.json": b"{}"}), 1, "transformers.js or plain ONNX"),
        ("a/b", Repo({"model-q4.gguf": b"x"}), 1, "no genai_config.json"),
        ("a/b", Repo({"genai_config.json": b"{", "model.onnx": b"x"}), 1, "not usable"),
        ("phi35", None, 1, "did you mean phi-3.5"),
    ],
)
def test_what_goes_wrong_is_one_line_and_a_hint(hub: Hub, name: str, repo: Repo | None, code: int, said: str) -> None:
    if repo:
        hub.repos["a/b"] = repo
    result = lmsupply("pull", name, HF_ENDPOINT=hub.url)
    assert result.code == code
    assert said in result.err
    assert "error: " in result.err
    assert "hint: " in result.err
    assert "Traceback" not in result.err


def test_offline_asks_nobody(hub: Hub) -> None:
    for arguments, environ in ((["--offline"], {}), ([], {"HF_HUB_OFFLINE": "1"}), ([], {"LMSUPPLY_OFFLINE": "yes"})):
        result = lmsupply("pull", *arguments, "phi-3.5", HF_ENDPOINT=hub.url, **environ)
        assert result.code == 3
        assert "offline" in result.err
    assert hub.requests == []


def test_a_file_of_the_wrong_size_is_not_installed(hub: Hub) -> None:
    hub.repos["a/b"] = Repo(files("", "llama"), sizes={"model.onnx": 7})
    result = lmsupply("pull", "a/b", HF_ENDPOINT=hub.url)
    assert result.code == 1
    assert "model.onnx arrived with" in result.err
    assert lmsupply("models", "--installed", "-q").out == "guide\n"
