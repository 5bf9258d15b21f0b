"""Models of other programs have names, and what is damaged or hostile among them is a line."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from support.killed import convert

from lmsupply_cli import paths
from lmsupply_cli.errors import NotImported
from lmsupply_cli.store.found import find_found, found_models
from lmsupply_cli.store.imports import NewImport, begin_import, find_import, name_for
from lmsupply_cli.store.locate import is_ref, locate, parse_repo
from lmsupply_cli.store.manifest import ImportSource, read_manifests
from lmsupply_cli.store.source_paths import read_digests, source_at

TOY = Path(__file__).parent.parent / "models" / "toy"
LAYER = "application/vnd.ollama.image."


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("LLAMA_CACHE", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "user" / ".ollama" / "models"))  # not those of this machine
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "user"))
    return tmp_path / "user"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


def gguf(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"GGUF" + (text or path.name).encode())
    return path


class Ollama:
    """A folder of models as Ollama writes it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        (home / "blobs").mkdir(parents=True, exist_ok=True)

    def blob(self, data: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        (self.home / "blobs" / f"sha256-{digest}").write_bytes(data)
        return {"digest": f"sha256:{digest}", "size": len(data)}

    def model(self, place: str, data: bytes, *more: dict[str, Any]) -> Path:
        layers = [
            {"mediaType": f"{LAYER}model", **self.blob(data)},
            {"mediaType": f"{LAYER}template", **self.blob(b"{{ .Prompt }}")},
        ]
        return self.manifest(place, {"schemaVersion": 2, "config": {}, "layers": [*layers, *more]})

    def manifest(self, place: str, value: Any) -> Path:
        path = self.home / "manifests" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(value if isinstance(value, bytes) else json.dumps(value).encode())
        return path


@pytest.fixture
def ollama(home: Path) -> Ollama:
    return Ollama(home / ".ollama" / "models")


LLAMA = "registry.ollama.ai/library/llama3.2/1b"


def names(root: Path) -> list[str]:
    return [model.name for model in found_models(root).models]


def test_nothing_is_found_where_nothing_is(root: Path) -> None:
    assert found_models(root) == ((), ())


def test_models_of_ollama(ollama: Ollama, root: Path) -> None:
    ollama.model(LLAMA, b"GGUF one")
    ollama.model("registry.ollama.ai/library/qwen3/latest", b"GGUF two")
    ollama.model("registry.ollama.ai/someone/own/v1", b"GGUF three")
    ollama.model("hf.co/bartowski/Llama-GGUF/Q4_K_M", b"GGUF four")
    assert names(root) == ["ollama:hf.co/bartowski/Llama-GGUF:Q4_K_M", "ollama:llama3.2:1b", "ollama:qwen3:latest", "ollama:someone/own:v1"]  # fmt: skip
    found = find_found("Ollama:Llama3.2:1b")
    assert found
    assert (found.tool, found.format, found.size_bytes) == ("Ollama", "gguf", 8)
    assert found.path.read_bytes() == b"GGUF one"
    latest = find_found("ollama:qwen3")
    assert latest
    assert latest.name == "ollama:qwen3:latest"
    assert find_found("ollama:nothing") is None
    assert not any(parse_repo(name) for name in names(root)), "none is a repo of the Hub"
    assert all(is_ref(name, root) for name in names(root))


def test_where_ollama_keeps_them(ollama: Ollama, tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ollama.model(LLAMA, b"GGUF one")
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "elsewhere"))
    assert names(root) == []
    Ollama(tmp_path / "elsewhere").model("registry.ollama.ai/library/x/y", b"GGUF")
    assert names(root) == ["ollama:x:y"]
    monkeypatch.setenv("OLLAMA_MODELS", str(next((ollama.home / "blobs").iterdir())))
    assert names(root) == [], "a file is no folder, and no business of ours"
    monkeypatch.delenv("OLLAMA_MODELS")
    assert paths.ollama_models()[0] == ollama.home


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (b"{", "is not valid JSON"),
        (b"\xff\xfe", "not text in UTF-8"),
        (b"[" * 5000, "nested too deeply"),
        ([], "no layers"),
        ({"layers": {}}, "no layers"),
        ({"layers": [None, 5, {"mediaType": 7}]}, "names 0 GGUF files"),
        ({"layers": [{"mediaType": f"{LAYER}model"}]}, "names no digest"),
        ({"layers": [{"mediaType": f"{LAYER}model", "digest": "sha256:../../../../etc/passwd"}]}, "names no digest"),
        ({"layers": [{"mediaType": f"{LAYER}model", "digest": "sha256:" + "a" * 64, "size": 5}]}, "is missing"),
        ({"layers": [{"mediaType": f"{LAYER}model", "digest": "sha256:" + "a" * 64}] * 2}, "names 2 GGUF files"),
        ({"layers": [{"mediaType": f"{LAYER}tensor", "digest": "sha256:" + "a" * 64}]}, "names 0 GGUF files"),
        ({"layers": [{"mediaType": f"{LAYER}adapter", "digest": "sha256:" + "a" * 64}]}, "has an adapter"),
        (b" " * 2_000_000, "is larger"),
    ],
)
def test_manifests_that_cannot_be_used(ollama: Ollama, root: Path, value: Any, said: str) -> None:
    ollama.model("registry.ollama.ai/library/good/one", b"GGUF")
    ollama.manifest(LLAMA, value)
    found = found_models(root)
    assert [model.name for model in found.models] == ["ollama:good:one"]
    (line,) = found.skipped
    assert line.startswith("ollama:llama3.2:1b cannot be used: ")
    assert said in line
    assert find_found("ollama:llama3.2:1b") is None


def test_blobs_that_are_not_what_the_manifest_says(ollama: Ollama, root: Path) -> None:
    ollama.model("registry.ollama.ai/library/text/one", b"not a model")
    manifest = ollama.model("registry.ollama.ai/library/short/one", b"GGUF and more")
    value = json.loads(manifest.read_text())
    value["layers"][0]["size"] = 10**18
    manifest.write_text(json.dumps(value))
    folder = ollama.model("registry.ollama.ai/library/folder/one", b"GGUF folder")
    blob = ollama.home / "blobs" / f"sha256-{hashlib.sha256(b'GGUF folder').hexdigest()}"
    blob.unlink()
    blob.mkdir()
    assert folder.exists()
    found = found_models(root)
    assert found.models == ()
    assert [line.partition(": ")[0] for line in found.skipped] == [
        f"ollama:{n}:one cannot be used" for n in ("folder", "short", "text")
    ]
    assert "no GGUF file" in found.skipped[2]
    assert "13 bytes instead of 1,000,000,000,000,000,000" in found.skipped[1]


@pytest.mark.skipif(sys.platform == "win32", reason="no such names there")
def test_names_that_steer_a_terminal(ollama: Ollama, home: Path, root: Path) -> None:
    ollama.model("registry.ollama.ai/library/a\x1b[2J/one", b"GGUF")
    gguf(home / ".lmstudio" / "models" / "o" / "r" / "evil\n.gguf")
    found = found_models(root)
    assert found.models == ()
    assert len(found.skipped) == 2
    assert all(line.isprintable() for line in found.skipped)


def test_models_of_lm_studio(home: Path, root: Path, tmp_path: Path) -> None:
    models = home / ".lmstudio" / "models"
    for name in ("Qwen-Q4_K_M.gguf", "Qwen-Q8_0.gguf", "mmproj-Qwen-f16.gguf"):
        gguf(models / "bartowski" / "Qwen-GGUF" / name)
    for name in ("one-Q4_0.gguf", "two-Q4_0.gguf"):
        gguf(models / "own" / "several" / name)
    for number in (1, 2):
        gguf(models / "own" / "split" / f"big-Q6_K-0000{number}-of-00002.gguf")
    gguf(models / "own" / "broken" / "big-Q6_K-00001-of-00002.gguf")
    gguf(home / ".cache" / "lm-studio" / "models" / "old" / "repo" / "x.gguf")
    gguf(tmp_path / "big disk" / "a" / "b" / "y-Q4_0.gguf")
    (home / ".lmstudio" / "settings.json").write_text(json.dumps({"downloadsFolder": str(tmp_path / "big disk")}))
    found = found_models(root)
    assert [model.name for model in found.models] == [
        "lmstudio:a/b:q4_0", "lmstudio:bartowski/Qwen-GGUF:q4_k_m", "lmstudio:bartowski/Qwen-GGUF:q8_0", "lmstudio:old/repo:x",
        "lmstudio:own/several:one-Q4_0", "lmstudio:own/several:two-Q4_0", "lmstudio:own/split:q6_k",
    ]  # fmt: skip
    assert found.skipped == ("lmstudio:own/broken:q6_k cannot be used: 1 of its 2 parts are here",)
    split = find_found("lmstudio:own/split:q6_k")
    assert split
    assert [file.name for file in split.files] == [f"big-Q6_K-0000{number}-of-00002.gguf" for number in (1, 2)]
    assert split.size_bytes == sum(file.stat().st_size for file in split.files)
    (home / ".lmstudio-home-pointer").write_text(str(tmp_path / "moved"))
    gguf(tmp_path / "moved" / "models" / "o" / "r" / "z.gguf")
    assert names(root) == ["lmstudio:o/r:z", "lmstudio:old/repo:x"]
    for damaged in (
        "{",
        "[]",
        '{"downloadsFolder": 5}',
        '{"downloadsFolder": "relative"}',
        '{"downloadsFolder": "/a\\u0000b"}',
    ):
        (tmp_path / "moved" / "settings.json").write_text(damaged)
        assert names(root) == ["lmstudio:o/r:z", "lmstudio:old/repo:x"]


def test_models_of_llama_cpp(home: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    cache = home / ".cache" / "llama.cpp"
    gguf(cache / "ggml-org_gemma-3-1b-it-GGUF_gemma-3-1b-it-Q4_K_M.gguf")
    (cache / "ggml-org_gemma-3-1b-it-GGUF_gemma-3-1b-it-Q4_K_M.gguf.json").write_text("{}")
    (cache / "half.gguf").write_bytes(b"GG")
    assert names(root) == ["llamacpp:ggml-org_gemma-3-1b-it-GGUF_gemma-3-1b-it-Q4_K_M"]
    assert found_models(root).skipped == ("llamacpp:half cannot be used: half.gguf is no GGUF file",)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    gguf(tmp_path / "xdg" / "llama.cpp" / "x.gguf")
    assert names(root) == ["llamacpp:x"]
    monkeypatch.setenv("LLAMA_CACHE", str(tmp_path / "own"))
    gguf(tmp_path / "own" / "y.gguf")
    assert names(root) == ["llamacpp:y"]
    monkeypatch.delenv("LLAMA_CACHE")
    monkeypatch.setattr(sys, "platform", "darwin")
    gguf(home / "Library" / "Caches" / "llama.cpp" / "z.gguf")
    assert names(root) == ["llamacpp:z"]
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    gguf(tmp_path / "local" / "llama.cpp" / "w.gguf")
    assert names(root) == ["llamacpp:w"]


def test_models_of_the_hugging_face_cache_and_foundry_local(home: Path, root: Path) -> None:
    repo = home / ".cache" / "huggingface" / "hub" / "models--x--y-GGUF"
    blob = gguf(repo / "blobs" / "0123")
    gguf(repo / "snapshots" / ("b" * 40) / "old-Q8_0.gguf")
    for at, commit in enumerate(("a" * 40, "b" * 40)):
        link = repo / "snapshots" / commit / "y-Q4_K_M.gguf"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blob)
        os.utime(link.parent, (1_700_000_000 - at, 1_700_000_000 - at))
    shutil.copytree(TOY, home / ".foundry" / "cache" / "models" / "Microsoft" / "Toy-cpu" / "v1")
    found = found_models(root).models
    assert [(m.name, m.tool, m.format) for m in found] == [
        ("hf:x/y-GGUF:q4_k_m", "Hugging Face cache", "gguf"),
        ("hf:x/y-GGUF:q8_0", "Hugging Face cache", "gguf"),
        ("Toy-cpu", "Foundry Local", "genai"),
    ]
    assert found[0].path.parent.name == "a" * 40, "of several commits the newest"
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("b" * 40)
    assert found_models(root).models[0].path.parent.name == "b" * 40, "or that of main"
    assert locate("Toy-cpu", root).path == found[2].path
    assert find_found("Toy-cpu") is None, "it is used in place"


def test_safetensors_of_the_hugging_face_cache(home: Path, root: Path) -> None:
    cache = home / ".cache" / "huggingface" / "hub"

    def put(repo: str, commit: str, *names: str, **config: Any) -> Path:
        folder = cache / f"models--{repo.replace('/', '--')}" / "snapshots" / (commit * 40)
        folder.mkdir(parents=True)
        for name in names:
            (folder / name).write_bytes(name.encode())
        (folder / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]} | config))
        return folder

    whole = put("x/whole", "a", "model.safetensors", "tokenizer.json", "README.md", "b-Q4_0.gguf")
    gguf(whole / "b-Q4_0.gguf")
    put(
        "x/parts",
        "a",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
    )
    put("x/half", "a", "model-00001-of-00002.safetensors", "model.safetensors.index.json")
    put("x/bert", "a", "model.safetensors", architectures=["BertModel"])
    put("x/odd", "a", "model.safetensors", architectures=[5])
    put("x/config", "a")
    put("x/adapter", "a", "adapter_model.safetensors")
    put("x/onnx", "a", "model.safetensors", "genai_config.json")
    found = found_models(root)
    assert [(m.name, m.format) for m in found.models] == [
        ("hf:x/parts", "safetensors"), ("hf:x/whole", "safetensors"), ("hf:x/whole:q4_0", "gguf"),
    ]  # fmt: skip
    assert found.skipped == ("hf:x/half cannot be used: 1 of its parts are missing",)
    newer = put("x/whole", "b", "model.safetensors", "tokenizer.json")
    (newer.parent.parent / "refs").mkdir()
    for commit in (whole, newer):
        (newer.parent.parent / "refs" / "main").write_text(commit.name)
        source = source_at("hf:x/whole")
        assert source
        assert (source.path, source.format, source.found) == (commit, "safetensors", "hf:x/whole"), "that of main"
        assert [file.name for file in source.files] == ["model.safetensors", "config.json", "tokenizer.json"]
    assert is_ref("hf:x/whole", root)
    with pytest.raises(NotImported, match="hf:x/whole is not imported yet"):
        locate("hf:x/whole", root)
    manifest = import_found("hf:x/whole", root, "safetensors")
    assert locate("HF:x/Whole", root).key == manifest.key


def test_names_with_spaces_get_dashes(home: Path, root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LLAMA_CACHE", str(tmp_path / "own"))
    paths = [gguf(tmp_path / "own" / f"{name}.gguf") for name in ("my  model", "my-Model", "my model", "plain")]
    odd = gguf(home / ".lmstudio" / "models" / "My Org" / "my\u00a0repo" / "A model.Q4_0.gguf")
    found = {model.name: model.path for model in found_models(root).models}
    assert found == {
        "llamacpp:my-model-2": paths[0], "llamacpp:my-Model": paths[1], "llamacpp:my-model-3": paths[2],
        "llamacpp:plain": paths[3], "lmstudio:My-Org/my-repo:q4_0": odd,
    }  # fmt: skip
    for name, path in found.items():
        source = source_at(name)
        assert source
        assert (source.path, source.name, is_ref(name, root)) == (path, name, True)
        assert import_found(name, root).ref == name


def test_what_our_own_imports_keep_is_nobody_elses(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = home / ".cache" / "huggingface" / "hub"
    commit = "c" * 40
    kept = gguf(root / "models--a--b" / "snapshots" / commit / "b-Q4_K_M.gguf")
    assert names(root) == ["hf:a/b:q4_k_m"]
    (file,) = read_digests(root, [kept])
    source = ImportSource("gguf", (file._replace(path=kept.name, mtime_ns=0),), "exact", kept=True)
    with begin_import(root, NewImport("a/b", source, repo="a/b", commit=commit), needed_bytes=0) as staging:
        convert(kept, staging)
    assert names(root) == []


def test_a_found_model_is_imported_under_its_name(ollama: Ollama, root: Path) -> None:
    ollama.model(LLAMA, b"GGUF one")
    name = "ollama:llama3.2:1b"
    with pytest.raises(NotImported, match=r"ollama:llama3\.2:1b is not imported yet"):
        locate(name, root)
    source = source_at(name)
    assert source
    assert name_for(root, source) == source.name == name
    manifest = import_found(name, root)
    assert manifest.ref == name
    assert locate(name.upper(), root).key == manifest.key
    assert find_import(root, source.files) == manifest
    ollama.model(LLAMA, b"GGUF two")
    with pytest.raises(NotImported):  # the name means what Ollama has now
        locate(name, root)
    newer = import_found(name, root)
    assert [m.key for m in read_manifests(root)] == [newer.key]
    shutil.rmtree(ollama.home)
    assert locate(name, root).key == newer.key, "it stays when Ollama goes"


def import_found(name: str, root: Path, format: str = "gguf") -> Any:
    source = source_at(name)
    assert source
    new = NewImport(name, ImportSource(format, read_digests(root, source.files), "exact"))
    with begin_import(root, new, needed_bytes=0) as staging:
        return convert(source.files[0], staging)
