"""Whatever is in the files that the program reads, it ends with an exit code of its own and no traceback.

Set FUZZ_SEED and FUZZ_TIMES for other documents, and more of them.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest
from support.cli import Result, lmsupply
from support.fuzz import mutated

from lmsupply_cli.store.manifest import FileRecord, Manifest

TOY = Path(__file__).parent / "models" / "toy"
SEED, TIMES = int(os.environ.get("FUZZ_SEED", "1")), float(os.environ.get("FUZZ_TIMES", "1"))
COMMIT = "a" * 40
KNOWN = {0, 1, 2, 3, 4, 5}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A used one: settings, models of the user's, an accepted license, an installed model, an interrupted pull, a chat."""
    home = tmp_path / "home"
    snapshot = f"models--o--n/snapshots/{COMMIT}"
    shutil.copytree(TOY, home / "cache" / snapshot)
    files = {p.name: FileRecord(p.stat().st_size, "") for p in TOY.iterdir()}
    manifest = Manifest("o/n", "o/n", "main", COMMIT, "", snapshot, snapshot, "MIT", "permissive", files, "2026-01-01")
    other = Manifest("o/m", "o/m", "main", COMMIT, "", f"models--o--m/snapshots/{COMMIT}",
                     f"models--o--m/snapshots/{COMMIT}", "MIT", "permissive", files, "2026-01-01")  # fmt: skip
    for folder, record in (("manifests", manifest), ("unfinished", other)):
        path = home / "cache" / ".lmsupply" / folder / f"{record.key}.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"schema": 1, **asdict(record)}))
    (home / "config").mkdir()
    (home / "config" / "config.toml").write_text(
        'temperature = 0.5\nstop = ["a"]\nthreads = 1\nmemory_limit = "8GB"\ntheme = "dark"\nseed = 3\nhistory = true\n'
        'allowed_tiers = ["permissive", "unknown"]\n'
    )
    (home / "config" / "models.toml").write_text(
        '[[model]]\nref = "mine"\nrepo = "o/mine"\nfamily = "phi"\nlicense = "own"\nparameters = 1.5\ncontext_length = 4096\n'
        'aliases = ["my"]\nlayers = 2\nkv_heads = 2\nhead_size = 8\n[model.variants]\n"cpu-int4" = 1000\n'
        '[licenses.own]\ntier = "conditional"\nurl = "https://x.example"\nrestrictions = "none"\n'
    )
    accepted = {
        "ref": "x",
        "repo": "o/x",
        "license": "y",
        "tier": "research",
        "revision": COMMIT,
        "date": "2026-01-01",
        "url": "",
    }
    (home / "config" / "accepted-licenses.json").write_text(json.dumps({"schema": 1, "accepted": [accepted]}))
    chat = home / "state" / "sessions" / "talk.jsonl"
    chat.parent.mkdir(parents=True)
    rows = [
        {"type": "session", "schema": 1, "created": "2026-01-01", "model": "guide"},
        {"type": "message", "role": "user", "content": "hi"},
        {"type": "said", "text": "a", "reasoning": ""},
        {"type": "message", "role": "assistant", "content": "b", "reasoning": "c", "partial": True},
        {"type": "keep", "count": 2},
        {"type": "set", "key": "temperature", "value": 0.3},
        {"type": "format", "kind": "regex", "text": "a*"},
        {"type": "model", "ref": "guide"},
    ]
    chat.write_text("\n".join(map(json.dumps, rows)) + "\n")
    shutil.copytree(TOY, tmp_path / "folder")
    (tmp_path / "folder" / "generation_config.json").write_text(
        '{"temperature": 0.4, "top_k": 20, "eos_token_id": [1, 2]}'
    )
    (tmp_path / "folder" / "special_tokens_map.json").write_text(
        '{"bos_token": "<s>", "eos_token": {"content": "</s>"}}'
    )
    (tmp_path / "batch.jsonl").write_text(
        '{"prompt": "a", "id": 1, "max_tokens": 2}\n{"messages": [{"role": "user", "content": "b"}], "stop": ["x"]}\n'
    )
    (tmp_path / "schema.json").write_text(
        '{"type": "object", "properties": {"a": {"enum": [1, "b"]}}, "required": ["a"]}'
    )
    return home


FOLDER = [("show", "{folder}"), ("run", "--show-prompt", "-m", "{folder}", "hi"), ("add", "{folder}", "--alias", "x")]
ENGINE = [("run", "-q", "-m", "{folder}", "--max-tokens", "2", "hi")]
# file (below the home's parent), its form, the commands that read it, how many changes
READ = {
    "genai_config.json": ("folder/genai_config.json", "json", FOLDER, 300),
    "tokenizer.json": ("folder/tokenizer.json", "json", FOLDER, 150),
    "tokenizer_config.json": ("folder/tokenizer_config.json", "json", FOLDER, 250),
    "generation_config.json": ("folder/generation_config.json", "json", FOLDER, 120),
    "genai_config.json in the engine": ("folder/genai_config.json", "json", ENGINE, 60),
    "tokenizer.json in the engine": ("folder/tokenizer.json", "json", ENGINE, 40),
    "tokenizer_config.json in the engine": ("folder/tokenizer_config.json", "json", ENGINE, 40),
    "a record": (
        f"home/cache/.lmsupply/manifests/o--n--{COMMIT}--root.json", "json",
        [("models", "--installed"), ("verify",), ("rm", "-y", "o/n"), ("run", "--show-prompt", "hi"), ("show", "o/n")], 300,
    ),
    "a record of something unfinished": (
        f"home/cache/.lmsupply/unfinished/o--m--{COMMIT}--root.json", "json",
        [("rm", "--partial", "-y"), ("models",), ("run", "--show-prompt", "-m", "o/m", "hi")], 150,
    ),
    "config.toml": (
        "home/config/config.toml", "toml",
        [("config", "list"), ("models",), ("run", "--show-prompt", "hi"), ("config", "set", "seed", "4"), ("licenses",)], 250,
    ),
    "models.toml": ("home/config/models.toml", "toml", [("models",), ("show", "mine"), ("models", "--json")], 200),
    "accepted licenses": (
        "home/config/accepted-licenses.json", "json",
        [("licenses",), ("models",), ("licenses", "--revoke", "x"), ("run", "--show-prompt", "hi")], 150,
    ),
    "a saved chat": ("home/state/sessions/talk.jsonl", "jsonl", [("chat", "--continue")], 40),
    "a batch": ("batch.jsonl", "jsonl", [("run", "--batch", "{path}", "-m", "guide", "-q")], 30),
    "a schema": ("schema.json", "json", [("run", "--json-schema", "{path}", "-m", "guide", "-q", "--max-tokens", "3", "x")], 40),
}  # fmt: skip


def test_there_are_enough_of_them() -> None:
    assert sum(times for *_, times in READ.values()) >= 2000


@pytest.mark.parametrize("what", READ)
def test_no_document_is_a_bug(home: Path, what: str) -> None:
    name, form, commands, times = READ[what]
    path, folder = home.parent / name, home.parent / "folder"
    data, rng = path.read_bytes(), random.Random(f"{SEED} {what}")
    pristine = home.parent / "pristine"
    shutil.copytree(home, pristine)
    for at in range(int(times * TIMES)):
        argv = tuple(
            part.format(folder=folder, path=path) if part.startswith("{") else part
            for part in commands[at % len(commands)]
        )
        changed = mutated(data, rng, form=form)
        path.write_bytes(changed)
        outcome = lmsupply(*argv, LMSUPPLY_HOME=str(home), HF_HUB_OFFLINE="1")
        assert is_fine(outcome), f"{argv} with {changed[:3000]!r}:\n{outcome.code}\n{outcome.output[-3000:]}"
        if argv[0] in ("rm", "add", "licenses", "config"):
            shutil.rmtree(home)
            shutil.copytree(pristine, home)


def is_fine(outcome: Result) -> bool:
    return outcome.code in KNOWN and "Traceback" not in outcome.output and "a bug" not in outcome.output
