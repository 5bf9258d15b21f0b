"""What a folder needs to run here, and the one line that says what is in the way."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lmsupply_cli import load
from lmsupply_cli.engine.folder import look_at_folder, open_folder
from lmsupply_cli.errors import LmsupplyError, ModelFilesError, ProviderUnavailable, UntrustedModelFiles

CONFIG, DATA = "genai_config.json", "model.onnx.data"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 3\n"


@pytest.fixture
def folder(tmp_path: Path, guide: Path) -> Path:
    return Path(shutil.copytree(guide, tmp_path / "model"))


def change(folder: Path, name: str, edit: Callable[[dict[str, Any]], Any]) -> None:
    value = json.loads((folder / name).read_text())
    edit(value)
    (folder / name).write_text(json.dumps(value))


def put(name: str, **values: Any) -> Callable[[Path], None]:
    """Set keys of a file; `a__b` is b in a."""

    def act(folder: Path) -> None:
        value = json.loads((folder / name).read_text()) if (folder / name).exists() else {}
        for key, new in values.items():
            *above, last = key.split("__")
            place = value
            for part in above:
                place = place[part]
            place[last] = new
        (folder / name).write_text(json.dumps(value))

    return act


def in_place_of(name: str, data: bytes | None) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        (folder / name).unlink()
        if data is not None:
            (folder / name).write_bytes(data)

    return act


def link(name: str, target: str) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to(target)

    return act


def short(folder: Path) -> None:
    (folder / DATA).write_bytes((folder / DATA).read_bytes()[:-1000])


CASES: list[tuple[Callable[[Path], None], str]] = [
    (in_place_of(DATA, POINTER), "model.onnx.data is a Git LFS pointer"),
    (in_place_of("tokenizer_config.json", POINTER), "tokenizer_config.json is a Git LFS pointer"),
    (short, "model.onnx.data has 1,747,736 bytes; at least 1,748,736 are expected"),
    (in_place_of(DATA, b""), "model.onnx.data is empty; 1,748,736 bytes are expected"),
    (in_place_of(DATA, None), "model.onnx.data is missing"),
    (link(DATA, "nowhere"), "model.onnx.data is a dangling link"),
    (link("tokenizer.json", "/dev/zero"), "tokenizer.json is not a regular file"),
    (in_place_of("tokenizer.json", None), "tokenizer.json is missing"),
    (in_place_of("tokenizer_config.json", None), "tokenizer_config.json is missing"),
    (in_place_of("tokenizer_config.json", b"{bad"), "tokenizer_config.json is damaged: it is not valid JSON"),
    (in_place_of("tokenizer_config.json", b"[" * 5000 + b"]" * 5000), "tokenizer_config.json is damaged: it is nested"),
    (put("tokenizer_config.json", tokenizer_class=None), "tokenizer_config.json: tokenizer_class is not a text: null"),
    (put("tokenizer_config.json", chat_template=[{"a": "b"}]), "tokenizer_config.json: chat_template is not a text"),
    (put("tokenizer.json", added_tokens=5), "tokenizer.json: added_tokens is not a list: 5"),
    (put("tokenizer.json", added_tokens=[5]), "tokenizer.json: added_tokens[0] is not an object: 5"),
    (put("generation_config.json", eos_token_id="x"), "generation_config.json: eos_token_id is not a token id"),
    (put(CONFIG, model__type="whisper"), "it is not a chat model: a model of type whisper reads speech"),
    (put(CONFIG, model__type="phi3v"), "a model of type phi3v reads pictures"),
    (put(CONFIG, model__type="marian-ssru"), "a model of type marian-ssru translates"),
    (put(CONFIG, model__type=5), "model.type is not a text: 5"),
    (put(CONFIG, model__decoder__pipeline=None), "model.decoder.pipeline is not a list: null"),
    (put(CONFIG, model__decoder__session_options=None), "model.decoder.session_options is not an object: null"),
    (put(CONFIG, model__decoder__session_options=[]), "model.decoder.session_options is not an object: []"),
    (put(CONFIG, model__decoder__filename="a\0b"), "model.decoder.filename is not a file name"),
    (put(CONFIG, model__decoder__head_size="48"), 'model.decoder.head_size is not a whole number from 1'),
    (put(CONFIG, model__context_length=10**12), "model.context_length is not a whole number from 1 to 2,147,483,647"),
    (put(CONFIG, model__context_length=2**63), "model.context_length is not a whole number"),
    (put(CONFIG, model__bos_token_id=None), "model.bos_token_id is not a whole number of 32 bits: null"),
    (put(CONFIG, model__pad_token_id=[1]), "model.pad_token_id is not a whole number of 32 bits: [1]"),
    (put(CONFIG, model__eos_token_id=None), "model.eos_token_id is not a token id or a list of them: null"),
    (put(CONFIG, model__eos_token_id=[2, 1280]), "model.eos_token_id names token 1280, but the vocabulary has 1,280"),
    (put(CONFIG, search=None), "search is not an object: null"),
    (put(CONFIG, search__top_p="x"), 'search.top_p is not a number: "x"'),
]  # fmt: skip


@pytest.mark.parametrize(("act", "said"), CASES, ids=[said for _, said in CASES])
def test_what_is_wrong_is_said_with_file_and_key(folder: Path, act: Callable[[Path], None], said: str) -> None:
    act(folder)
    with pytest.raises(ModelFilesError) as caught:
        load(folder)
    assert said in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    "option",
    [
        {"enable_profiling": "bash"},
        {"session.optimized_model_filepath": "here.onnx"},
        {"ep.context_file_path": "here.onnx"},
        {"session.debug_layout_transformation": "1"},
        {"custom_ops_library": "onnx_custom_ops.dll"},
    ],
)
def test_options_that_are_on_no_list_need_trust(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: dict[str, str]
) -> None:
    monkeypatch.chdir(tmp_path)
    change(folder, CONFIG, lambda c: c["model"]["decoder"]["session_options"].update(option))
    with pytest.raises(UntrustedModelFiles, match=next(iter(option))):
        load(folder)
    assert open_folder(folder, trust=True).trusted
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == []


def test_options_of_the_list_are_taken(folder: Path) -> None:
    options = {
        "session.disable_prepacking": "0",
        "enable_mem_pattern": True,
        "graph_optimization_level": "ORT_ENABLE_ALL",
    }
    change(folder, CONFIG, lambda c: c["model"]["decoder"]["session_options"].update(options))
    with load(folder) as model:
        assert model.generate("hello", max_tokens=2).text


@pytest.mark.parametrize("provider", ["web", "rocm", "qnn"])
def test_a_provider_of_which_nothing_is_known_needs_another(folder: Path, provider: str) -> None:
    options = {"provider_options": [{provider: {"backend_path": "x.dll"}}]}
    change(folder, CONFIG, lambda c: c["model"]["decoder"]["session_options"].update(options))
    with pytest.raises(ProviderUnavailable, match=f"declares the provider {provider}") as caught:
        load(folder)
    assert "`provider=cpu`" in caught.value.hint
    with load(folder, provider="cpu") as model:
        assert model.generate("hello", max_tokens=2).text


def test_end_tokens_come_from_all_files_that_name_them(folder: Path) -> None:
    change(folder, CONFIG, lambda c: c["model"].update(eos_token_id=0))
    (folder / "generation_config.json").write_text('{"eos_token_id": [5, 0, 999999]}')
    assert open_folder(folder).eos_ids == {0, 2, 5}, "2 by tokenizer_config.json; none beyond the vocabulary"
    with load(folder) as model:
        assert model.generate("How do I list my models?", temperature=0).finish_reason == "stop"


def test_a_token_beyond_the_vocabulary_is_named(folder: Path) -> None:
    extra = {"id": 1500, "content": "<|extra|>", "special": True, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}  # fmt: skip
    change(folder, "tokenizer.json", lambda t: t["added_tokens"].append(extra))
    (folder / "chat_template.jinja").write_text("<|extra|>{{ messages[-1].content }}")
    with load(folder) as model, pytest.raises(ModelFilesError, match=r"<\|extra\|>.* as token 1280, .* has 1,280"):
        model.generate("hello")


def test_sampling_values_of_a_config_do_not_stop_the_engine(folder: Path) -> None:
    change(folder, CONFIG, lambda c: c["search"].update(top_k=99999, top_p=7, num_beams=0))
    with load(folder) as model:
        assert model.generate("hello", max_tokens=2).text


def number_at(data: bytes, at: int) -> tuple[int, int]:
    """A number as Protocol Buffers write it, and the place after it."""
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 0x80:
            return value, at


def written(value: int) -> bytes:
    out = b""
    while value >= 0x80:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


def relocated(message: bytes, location: bytes, path: tuple[int, ...] = (7, 5, 13, 2)) -> bytes:
    """An ONNX graph whose weights (graph, initializer, external_data, value) are at `location`."""
    out, at = b"", 0
    while at < len(message):
        start = at
        key, at = number_at(message, at)
        if key & 7 == 0:
            _, at = number_at(message, at)
        elif key & 7 == 2:
            size, at = number_at(message, at)
            body, at = message[at : at + size], at + size
            if key >> 3 == path[0]:
                if len(path) > 1:
                    body = relocated(body, location, path[1:])
                elif body == DATA.encode():
                    body = location
                out += written(key) + written(len(body)) + body
                continue
        else:
            at += 4 if key & 7 == 5 else 8
        out += message[start:at]
    return out


@pytest.mark.parametrize("outside", ["absolute", "relative"])
def test_weights_outside_the_folder_are_refused(folder: Path, outside: str) -> None:
    graph = folder / "model.onnx"
    there = folder.parent / "elsewhere.data"
    there.write_bytes((folder / DATA).read_bytes())
    location = str(there) if outside == "absolute" else f"../{there.name}"
    graph.write_bytes(relocated(graph.read_bytes(), location.encode()))
    with pytest.raises(UntrustedModelFiles, match="names weights outside its folder"):
        open_folder(folder)


def test_a_place_above_the_folder_is_refused_whether_or_not_anything_is_there(folder: Path) -> None:
    graph = folder / "model.onnx"
    graph.write_bytes(relocated(graph.read_bytes(), b"../model.onnx.d"))
    with pytest.raises(UntrustedModelFiles, match="names weights outside its folder"):
        open_folder(folder)


@pytest.mark.parametrize("name", ["NoSuchTokenizer", "TokenizersBackend", ""])
def test_the_name_of_a_tokenizer_class_does_not_matter(folder: Path, name: str) -> None:
    """Text is encoded by its tokenizer.json."""
    put("tokenizer_config.json", tokenizer_class=name)(folder)
    assert look_at_folder(folder)[1] == ()
    with load(folder) as model:
        assert model.generate("hello", max_tokens=2).text


def test_links_are_judged_as_the_engine_judges_them(folder: Path, tmp_path: Path) -> None:
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    for name, blob in (("model.onnx", "a"), (DATA, "b")):
        shutil.move(folder / name, blobs / blob)
        (folder / name).symlink_to(blobs / blob)
    assert look_at_folder(folder)[1] == (), "as in a Hugging Face cache"
    (folder / "model.onnx").unlink()
    shutil.copy(blobs / "a", folder / "model.onnx")
    assert "outside its folder" in look_at_folder(folder)[1][0].text


@pytest.mark.parametrize("value", [-1, 5000])
def test_a_begin_token_that_the_vocabulary_lacks_is_none(folder: Path, value: int) -> None:
    change(folder, CONFIG, lambda c: c["model"].update(bos_token_id=value, pad_token_id=value))
    opened = open_folder(folder)
    assert (opened.bos_id, opened.pad_id) == (None, None)


def test_a_whole_folder_has_no_obstacle(guide: Path) -> None:
    assert look_at_folder(guide)[1] == ()


def test_a_byte_order_mark_that_the_engine_does_not_take_is_said(folder: Path) -> None:
    (folder / CONFIG).write_bytes(b"\xef\xbb\xbf" + (folder / CONFIG).read_bytes())
    with pytest.raises(LmsupplyError, match="begins with a byte order mark"):
        load(folder)
