"""GGUF files: what is in them, and what becomes of those that lie."""

from __future__ import annotations

import os
import random
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.gguf_files import key, listed, number, random_blocks, raw_gguf, tensor, text, write_gguf

from lmsupply_cli.errors import ModelFilesError
from lmsupply_cli.importer.gguf_file import GgufFile, open_gguf_file

F32, Q4_0 = 0, 2
HUGE = 1 << 62


def opened(folder: Path, data: bytes, name: str = "m.gguf") -> GgufFile:
    path = folder / name
    path.write_bytes(data)
    return open_gguf_file(path)


# what is in them


def test_metadata_has_plain_values(tmp_path: Path) -> None:
    numbers = {
        "u8": 200,
        "i8": -3,
        "u16": 60_000,
        "i16": -4,
        "u32": 1 << 31,
        "i32": -5,
        "u64": HUGE,
        "i64": -HUGE,
        "f64": 0.1,
    }
    keys = [key(kind, kind, number(kind, value)) for kind, value in numbers.items()]
    keys += [key("f32", "f32", number("f32", 1e-5)), key("yes", "flag", b"\x01"), key("name", "text", text("größe 🏳️"))]
    file = opened(tmp_path, raw_gguf(keys))
    assert {name: file.metadata[name] for name in numbers} == numbers
    assert file.number("f32") == 1e-5  # not the nearest double of the float32
    assert file.number("i8") == -3.0
    assert file.count("u64") == HUGE
    assert file.flag("yes") is True
    assert file.text("name") == "größe 🏳️"
    assert "name" in file
    assert "names" not in file


def test_lists_are_texts_or_numbers(tmp_path: Path) -> None:
    keys = [
        key("texts", "list", listed("text", 3, text("a") + text("") + text("é"))),
        key("none", "list", listed("text", 0, b"")),
        key("floats", "list", listed("f32", 2, number("f32", 0.5) + number("f32", -2))),
        key("kinds", "list", listed("i32", 2, number("i32", -1) + number("i32", 7))),
        key("flags", "list", listed("flag", 3, b"\x01\x00\x02")),
    ]
    file = opened(tmp_path, raw_gguf(keys))
    assert file.texts("texts") == ["a", "", "é"]
    assert file.texts("none") == file.texts("missing") == []
    assert file.numbers("floats").tolist() == [0.5, -2.0]
    assert file.numbers("kinds").tolist() == [-1, 7]
    assert file.numbers("flags").tolist() == [True, False, True]
    assert len(file.numbers("missing")) == 0


def test_values_of_another_type_are_named(tmp_path: Path) -> None:
    keys = [
        key("n", "i32", number("i32", -1)), key("t", "text", text("x\x1b[31m")), key("b", "flag", b"\x01"),
        key("inf", "f32", number("f32", float("inf"))), key("l", "list", listed("u8", 1, b"\x01")),
    ]  # fmt: skip
    file = opened(tmp_path, raw_gguf(keys))
    wrong: list[tuple[Any, str, str]] = [
        (file.text, "n", "n must be text, not -1"), (file.count, "n", "n must be a whole number, 0 or more, not -1"),
        (file.count, "b", "b must be a whole number, 0 or more, not True"), (file.number, "t", r"t must be a number, not 'x\x1b[31m'"),
        (file.number, "b", "b must be a number, not True"), (file.number, "inf", "inf must be a number, not inf"),
        (file.flag, "n", "n must be true or false, not -1"), (file.texts, "l", "l must be a list of texts, not a list"),
        (file.texts, "n", "n must be a list of texts, not -1"), (file.numbers, "t", r"t must be a list of numbers, not 'x\x1b[31m'"),
        (file.text, "absent", "the metadata has no absent"),
    ]  # fmt: skip
    for read, name, message in wrong:
        with pytest.raises(ModelFilesError) as caught:
            read(name)
        assert caught.value.message == f"{file.path}: {message}"
    assert file.text("absent", "") == ""
    assert (file.count("absent", 3), file.number("absent", 0.5), file.flag("absent", False)) == (3, 0.5, False)


def test_tensors_are_read_a_few_rows_at_a_time(tmp_path: Path) -> None:
    values = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)
    blocks = random_blocks("Q4_0", (5, 64))
    path = write_gguf(tmp_path / "m.gguf", "x", {}, {"a": values, "b": blocks, "c": values[0, 0]})
    file = open_gguf_file(path)
    a, b, c = (file.tensors[name] for name in "abc")
    assert (a.kind, a.shape, a.rows, a.row_bytes, a.size_bytes) == ("F32", (2, 3, 4), 6, 16, 96)
    assert np.array_equal(a.read(2, 5).view(np.float32), values.reshape(6, 4)[2:5])
    assert (b.kind, b.shape, b.size_bytes) == ("Q4_0", (5, 64), 5 * 2 * 18)
    assert np.array_equal(b.read(), blocks.data)
    assert np.array_equal(b.read(4), blocks.data[4:])
    assert (c.rows, c.read().view(np.float32).tolist()) == (1, [[0.0, 1.0, 2.0, 3.0]])


def test_the_second_version_and_another_alignment_are_read(tmp_path: Path) -> None:
    data = np.arange(4, dtype="<f4").tobytes()
    for version in (2, 3):
        file = opened(tmp_path, raw_gguf([], [tensor("a", [4], F32, 0)], data, version=version))
        assert file.tensors["a"].read().tobytes() == data
    keys = [key("general.alignment", "u32", number("u32", 256))]
    file = opened(tmp_path, raw_gguf(keys, [tensor("a", [4], F32, 256)], bytes(256) + data, alignment=256))
    assert file.tensors["a"].read().tobytes() == data


def test_tensors_may_overlap(tmp_path: Path) -> None:
    data = np.arange(8, dtype="<f4").tobytes()
    file = opened(tmp_path, raw_gguf([], [tensor("a", [8], F32, 0), tensor("b", [4], F32, 16)], data))
    assert file.tensors["b"].read().view(np.float32).tolist() == [[4.0, 5.0, 6.0, 7.0]]


def test_a_large_vocabulary_is_copied_once_and_decoded_on_demand(tmp_path: Path) -> None:
    tokens = [f"token {i}" for i in range(100_000)]
    entries = b"".join(map(text, tokens))
    path = tmp_path / "m.gguf"
    path.write_bytes(raw_gguf([key("tokens", "list", listed("text", len(tokens), entries))]))
    open_gguf_file(path)  # imports what it needs
    tracemalloc.start()
    try:
        file = open_gguf_file(path)
        assert tracemalloc.get_traced_memory()[1] < 1.2 * len(entries)
    finally:
        tracemalloc.stop()
    assert file.texts("tokens") == tokens


# parts


def write_parts(folder: Path, count: int = 3, **changes: Any) -> list[Path]:
    paths = []
    for part in range(count):
        metadata = {"split.no": part, "split.count": count, "split.tensors.count": count, "name": f"part {part}"}
        metadata |= {"general.name": "whole"} if part == 0 else {}
        values = {f"t{part}": np.full((2, 4), part, np.float32)}
        path = folder / f"m-{part + 1:05}-of-{count:05}.gguf"
        paths.append(write_gguf(path, "llama", metadata | changes.get(f"part{part}", {}), values))
    return paths


def test_any_part_opens_the_whole_model(tmp_path: Path) -> None:
    paths = write_parts(tmp_path)
    for path in paths:
        file = open_gguf_file(path)
        assert file.path == path
        assert list(file.parts) == paths
        assert (file.text("general.name"), file.text("name")) == ("whole", "part 0")
        assert [file.tensors[f"t{part}"].read().view(np.float32)[0, 0] for part in range(3)] == [0, 1, 2]


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    paths = write_parts(tmp_path)
    paths[1].unlink()
    with pytest.raises(ModelFilesError) as caught:
        open_gguf_file(paths[2])
    assert caught.value.message == f"{paths[1]} is missing: m-00003-of-00003.gguf is one of 3 parts"


def test_a_part_under_another_name_is_named(tmp_path: Path) -> None:
    paths = write_parts(tmp_path)
    renamed = paths[0].rename(tmp_path / "first.gguf")
    with pytest.raises(ModelFilesError, match=r"first.gguf says it is part 1 of 3, but its name says otherwise"):
        open_gguf_file(renamed)
    renamed.rename(paths[0])
    first, second = paths[0].read_bytes(), paths[1].read_bytes()
    paths[0].write_bytes(second)
    paths[1].write_bytes(first)
    with pytest.raises(
        ModelFilesError, match=r"m-00001-of-00003.gguf says it is part 2 of 3, but its name says otherwise"
    ):
        open_gguf_file(paths[2])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"part1": {"split.no": "x"}}, "m-00002-of-00003.gguf: split.no must be a whole number"),
        ({"part1": {"split.count": [3, 3]}}, "m-00002-of-00003.gguf: split.count must be a whole number"),
        (
            {"part0": {"split.tensors.count": [3, 3]}},
            "m-00001-of-00003.gguf: split.tensors.count must be a whole number",
        ),
        ({"part0": {"split.tensors.count": 4}}, "there are 3 tensors, but 4 were split"),
    ],
)
def test_parts_that_contradict_each_other_are_named(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    paths = write_parts(tmp_path, **changes)
    with pytest.raises(ModelFilesError, match=says):
        open_gguf_file(paths[0])


def test_a_tensor_in_two_parts_is_named(tmp_path: Path) -> None:
    for part in (1, 2):
        write_gguf(tmp_path / f"m-{part:05}-of-00002.gguf", "x", {}, {"same": np.zeros((1, 4), np.float32)})
    with pytest.raises(
        ModelFilesError, match=r"m-00002-of-00002.gguf: the tensor same is also in m-00001-of-00002.gguf"
    ):
        open_gguf_file(tmp_path / "m-00001-of-00002.gguf")


def test_a_name_like_that_of_a_part_is_just_a_name(tmp_path: Path) -> None:
    assert opened(tmp_path, raw_gguf(), "m-00001-of-00001.gguf").tensors == {}
    assert opened(tmp_path, raw_gguf(), "m-00005-of-00002.gguf").tensors == {}


# files that lie


def hostile() -> dict[str, tuple[bytes, str]]:
    four = [tensor("a", [4], F32, 0)]
    endless = text("k") + b"\x08\x00\x00\x00" + HUGE.to_bytes(8, "little")
    return {
        "empty": (b"", "is not a GGUF file"),
        "short": (b"GGUF\x03\x00\x00\x00", "is not a GGUF file"),
        "another format": (bytes(64), "is not a GGUF file"),
        "an old version": (raw_gguf(version=1), "has version 1 of GGUF; versions 2 and 3 are supported"),
        "a new version": (raw_gguf(version=4), "has version 4 of GGUF; versions 2 and 3 are supported"),
        "big endian": (raw_gguf(version=3 << 24), "is a big-endian GGUF file, which is not supported"),
        "many keys": (raw_gguf(counts=(0, HUGE)), f"claims to have {HUGE} keys and 0 tensors"),
        "many tensors": (raw_gguf(counts=(HUGE, 0)), f"claims to have 0 keys and {HUGE} tensors"),
        "more keys than there are": (raw_gguf(counts=(0, 3)), "is too short for"),
        "more tensors than there are": (raw_gguf(counts=(3, 0)), "is too short for its header"),
        "a long key": (raw_gguf([HUGE.to_bytes(8, "little")]), f"claims to have a key of {HUGE} bytes"),
        "a long text": (raw_gguf([endless]), f"claims to have k of {HUGE} bytes"),
        "a text beyond the end": (raw_gguf([text("k") + b"\x08\x00\x00\x00" + (1000).to_bytes(8, "little")]), "is too short for k of 1000 bytes"),
        "a key twice": (raw_gguf([key("k", "flag", b"\x00")] * 2), "has the key k twice"),
        "a key that is not UTF-8": (raw_gguf([key(b"\xff", "flag", b"\x00")]), "has a key that is not valid UTF-8"),
        "a text that is not UTF-8": (raw_gguf([key("k", "text", text(b"\xff"))]), "has k that is not valid UTF-8"),
        "a value of an unknown type": (raw_gguf([text("k") + b"\x63\x00\x00\x00"]), "has the key k with a value of unknown type 99"),
        "a list of an unknown type": (raw_gguf([key("k", "list", b"\x63\x00\x00\x00" + bytes(8))]), "has the key k with a list of unknown type 99"),
        "a list in a list": (raw_gguf([key("k", "list", listed("list", 1, listed("u8", 1, b"\x01")))]), "has the key k with lists in a list"),
        "a long list": (raw_gguf([key("k", "list", listed("f32", HUGE, b""))]), f"claims to have {HUGE} entries of k"),
        "a list beyond the end": (raw_gguf([key("k", "list", listed("f64", 1000, b""))]), "is too short for 1000 entries of k"),
        "a long list of texts": (raw_gguf([key("k", "list", listed("text", HUGE, b""))]), f"claims to have {HUGE} entries of k"),
        "texts beyond the end": (raw_gguf([key("k", "list", listed("text", 1000, text("a")))]), "is too short for 1000 entries of k"),
        "a long text in a list": (raw_gguf([key("k", "list", listed("text", 1, HUGE.to_bytes(8, "little")))]), "is too short for 1 entries of k"),
        "an odd alignment": (raw_gguf([key("general.alignment", "u32", number("u32", 48))]), "has a general.alignment that is not a power of two"),
        "no alignment": (raw_gguf([key("general.alignment", "u32", number("u32", 0))]), "has a general.alignment that is not a power of two"),
        "a huge alignment": (raw_gguf([key("general.alignment", "u64", number("u64", HUGE))], four, bytes(16)), "ends before the tensor a does"),
        "a tensor twice": (raw_gguf([], four * 2, bytes(16)), "has the tensor a twice"),
        "a tensor name that is not UTF-8": (raw_gguf([], [tensor(b"\xff", [4], F32, 0)]), "has the name of a tensor that is not valid UTF-8"),
        "no dimensions": (raw_gguf([], [tensor("a", [], F32, 0)]), "has a tensor a with 0 dimensions"),
        "many dimensions": (raw_gguf([], [tensor("a", [1] * 5, F32, 0)]), "has a tensor a with 5 dimensions"),
        "an empty tensor": (raw_gguf([], [tensor("a", [4, 0], F32, 0)]), "has the tensor a with shape [0, 4], which is not possible in F32"),
        "a shape that overflows": (raw_gguf([], [tensor("a", [HUGE, 4], F32, 0)], bytes(16)), "ends before the tensor a does"),
        "half a block": (raw_gguf([], [tensor("a", [48], Q4_0, 0)], bytes(64)), "has the tensor a with shape [48], which is not possible in Q4_0"),
        "an unknown quantization": (raw_gguf([], [tensor("a", [4], 9999, 0)]), "has the tensor a in a quantization that is not known (type 9999)"),
        "a removed quantization": (raw_gguf([], [tensor("a", [32], 4, 0)]), "has the tensor a in a quantization that is not known (type 4)"),
        "an offset beyond the end": (raw_gguf([], [tensor("a", [4], F32, HUGE)], bytes(16)), "ends before the tensor a does"),
        "a truncated tensor": (raw_gguf([], four, bytes(15)), "ends before the tensor a does"),
        "a name that steers terminals": (raw_gguf([], [tensor("\x1b]0;x\x07", [4], F32, 0)]), r"ends before the tensor \x1b]0;x\x07 does"),
    }  # fmt: skip


@pytest.mark.parametrize("case", hostile())
def test_a_file_that_lies_is_named_and_nothing_is_allocated(tmp_path: Path, case: str) -> None:
    data, says = hostile()[case]
    path = tmp_path / "m.gguf"
    path.write_bytes(data)
    open_gguf_file(write_gguf(tmp_path / "good.gguf", "x", {}, {"a": np.zeros((1, 4), np.float32)}))  # imports
    tracemalloc.start()
    try:
        with pytest.raises(ModelFilesError) as caught:
            open_gguf_file(path)
        assert tracemalloc.get_traced_memory()[1] < 200_000
    finally:
        tracemalloc.stop()
    assert caught.value.message.startswith(f"{path} ")
    assert says in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.hint


def test_a_text_as_large_as_the_file_is_not_read(tmp_path: Path) -> None:
    path, size = tmp_path / "m.gguf", 300_000_000
    with path.open("wb") as file:
        file.write(raw_gguf([text("k") + b"\x08\x00\x00\x00" + (size - 100).to_bytes(8, "little")]))
        file.truncate(size)  # takes no room where files may have holes
    tracemalloc.start()
    try:
        with pytest.raises(ModelFilesError, match="claims to have k of 299999900 bytes"):
            open_gguf_file(path)
        assert tracemalloc.get_traced_memory()[1] < 200_000
    finally:
        tracemalloc.stop()


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFilesError, match=r"cannot read .*none.gguf: No such file"):
        open_gguf_file(tmp_path / "none.gguf")
    with pytest.raises(ModelFilesError, match="cannot read"):
        open_gguf_file(tmp_path)
    with pytest.raises(ModelFilesError, match="cannot read"):
        open_gguf_file(Path("a\0b.gguf"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in the file system")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.gguf")
    with pytest.raises(ModelFilesError, match=r"pipe.gguf is not a regular file"):
        open_gguf_file(tmp_path / "pipe.gguf")


def test_tokens_that_are_not_utf_8_are_named(tmp_path: Path) -> None:
    file = opened(tmp_path, raw_gguf([key("tokens", "list", listed("text", 1, text(b"\xff")))]))
    with pytest.raises(ModelFilesError, match=r"m.gguf: tokens is not valid UTF-8"):
        file.texts("tokens")


def test_a_file_that_changes_is_not_read_on(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", "x", {}, {"a": np.zeros((64, 64), np.float32)})
    stored = open_gguf_file(path).tensors["a"]
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ModelFilesError, match=r"m.gguf changed while it was read"):
        stored.read()
    path.unlink()
    with pytest.raises(ModelFilesError, match=r"cannot read .*m.gguf"):
        stored.read()


def test_any_damage_is_an_error_of_ours_or_none(tmp_path: Path) -> None:
    metadata = {"general.name": "x", "list": [1, 2, 3], "texts": ["a", "b"], "n": 7, "f": 0.5}
    tensors: dict[str, Any] = {"a": np.ones((3, 4), np.float32), "b": random_blocks("Q4_K", (2, 256))}
    good = write_gguf(tmp_path / "good.gguf", "llama", metadata, tensors).read_bytes()
    path, rng = tmp_path / "m.gguf", random.Random(int(os.environ.get("FUZZ_SEED", "1")))
    messages: list[str] = []
    for _ in range(int(1500 * float(os.environ.get("FUZZ_TIMES", "1")))):
        data = bytearray(good)
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(data) // 2 if rng.random() < 0.8 else len(data))
            data[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        path.write_bytes(data[: rng.randrange(len(data))] if rng.random() < 0.1 else data)
        try:
            file = open_gguf_file(path)
            for stored in file.tensors.values():
                assert stored.read().nbytes == stored.size_bytes
            file.texts("texts")
        except ModelFilesError as error:
            messages.append(error.message)
    assert len(messages) > 100
    assert not [message for message in messages if "\n" in message]
