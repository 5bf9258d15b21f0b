"""A folder of safetensors as the Hub has it, read as a source of the importer."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lmsupply_cli.errors import FileError, ModelFilesError
from lmsupply_cli.files import is_file, read_json, read_text
from lmsupply_cli.foreign import plain
from lmsupply_cli.importer.prequantized import Method, packed_tensors, quantization_method
from lmsupply_cli.importer.safetensors_file import FLOAT_KINDS, StoredTensor, open_folder
from lmsupply_cli.importer.source import TokenizerFacts
from lmsupply_cli.importer.weights import Coded, Coding, Floats, Tensor, rows_of

CONFIG = "config.json"
GENERATION = "generation_config.json"
_TEXTS = (
    CONFIG, GENERATION, "quantize_config.json", "quant_config.json", "tokenizer.json", "tokenizer_config.json",
    "tokenizer.model", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "chat_template.jinja",
)  # fmt: skip
# what old versions of transformers saved although it follows from config.json
_BUFFER = re.compile(r"\.(rotary_emb\.\w*|masked_bias|position_ids)$")
_HEAD = re.compile(r"(^|\.)lm_head\.weight$")
_EXPERT = re.compile(r"(.+\.experts)\.(\d{1,5})\.(\w+\.weight)")
_FUSED = re.compile(r"(.+\.experts)\.(gate_up_proj|down_proj)")
_SNAPSHOT = re.compile(r"models--(?:.+--)?([^/]+)/snapshots/[^/]+$")
_LICENSE = re.compile(r"^license:[ \t]*[\"']?([\w.+-]{1,80})[\"']?[ \t]*$", re.MULTILINE)
_LICENSE_NAME = re.compile(r"^license_name:[ \t]*[\"']?([\w.+-]{1,80})[\"']?[ \t]*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class SafetensorsSource:
    """A `Source`; open it with `open_safetensors`."""

    folder: Path
    name: str
    license: str
    config: Mapping[str, Any]
    generation: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    files: tuple[Path, ...]
    format: str = "safetensors"
    folded_norms: bool = False

    def write_tokenizer(self, folder: Path) -> TokenizerFacts:
        """Write tokenizer.json and tokenizer_config.json from those of the source. Raises ModelFilesError, FileError."""
        from lmsupply_cli.importer.tokenizer_folder import write_tokenizer

        return write_tokenizer(self.folder, folder, self.config, self.generation)


@dataclass(frozen=True, slots=True)
class FloatTensor:
    """A tensor stored as floats."""

    name: str
    stored: StoredTensor

    @property
    def shape(self) -> tuple[int, ...]:
        return self.stored.shape

    @property
    def kind(self) -> str:
        return self.stored.kind

    @property
    def size_bytes(self) -> int:
        return self.stored.size_bytes

    @property
    def coding(self) -> Coding | None:
        return None

    def floats(self, start: int = 0, stop: int | None = None) -> Floats:
        return self.stored.floats(start, stop)

    def coded(self, start: int = 0, stop: int | None = None) -> Coded:
        raise ModelFilesError(f"{plain(self.name)} is {self.kind}: it has no integer form", hint="quantize its floats")


@dataclass(frozen=True, slots=True)
class JoinedTensor:
    """Rows of other tensors, one after the other: `parts` are (tensor, start, stop), alike in width and coding."""

    name: str
    shape: tuple[int, ...]
    parts: tuple[tuple[Tensor, int, int], ...]

    @property
    def kind(self) -> str:
        return self.parts[0][0].kind

    @property
    def size_bytes(self) -> int:
        return sum(tensor.size_bytes * (stop - start) // rows_of(tensor) for tensor, start, stop in self.parts)

    @property
    def coding(self) -> Coding | None:
        """That of the parts, with zero points as soon as one has them."""
        codings = [tensor.coding for tensor, _, _ in self.parts]
        first = next((coding for coding in codings if coding is not None and coding.zero_points), codings[0])
        if first is None or any(one is None or (one.bits, one.block) != (first.bits, first.block) for one in codings):
            return None
        return first

    def floats(self, start: int = 0, stop: int | None = None) -> Floats:
        found = [tensor.floats(first, last) for tensor, first, last in self._pieces(start, stop)]
        return found[0] if len(found) == 1 else np.concatenate([np.empty((0, self.shape[-1]), np.float32), *found])

    def coded(self, start: int = 0, stop: int | None = None) -> Coded:
        found = [tensor.coded(first, last) for tensor, first, last in self._pieces(start, stop)]
        zeros = None
        if self.coding is not None and self.coding.zero_points:
            middle = np.uint8(self.coding.zero)
            zeros = np.concatenate(
                [np.full(one.scales.shape, middle) if one.zero_points is None else one.zero_points for one in found]
            )
        scales = np.concatenate([one.scales for one in found])
        return Coded(np.concatenate([one.codes for one in found]), scales, zeros)

    def _pieces(self, start: int, stop: int | None) -> Iterator[tuple[Tensor, int, int]]:
        """What rows [start:stop] are made of."""
        begin, end, _ = slice(start, stop).indices(rows_of(self))
        for tensor, first, last in self.parts:
            low, high = max(begin, 0), min(end, last - first)
            if low < high:
                yield tensor, first + low, first + high
            begin, end = begin - (last - first), end - (last - first)


def open_safetensors(folder: Path) -> SafetensorsSource:
    """Raises ModelFilesError for a folder that is incomplete, damaged or hostile, or quantized in an unsupported way."""
    config = _read_object(folder / CONFIG)
    generation = _read_object(folder / GENERATION) if is_file(folder / GENERATION) else {}
    method = quantization_method(folder, config)
    stored = open_folder(folder)
    files = tuple(sorted({tensor.path for tensor in stored.values()}))
    tensors = _tensors(stored, method)
    config = _with_tie(config, tensors)
    if config["tie_word_embeddings"] is True:
        tensors = {name: tensor for name, tensor in tensors.items() if not _HEAD.search(name)}
    return SafetensorsSource(
        folder=folder,
        name=_name(folder),
        license=_license(folder),
        config=config,
        generation=generation,
        tensors=tensors,
        files=files + tuple(folder / name for name in _TEXTS if is_file(folder / name)),
    )


def _read_object(path: Path) -> dict[str, Any]:
    if not is_file(path):
        raise ModelFilesError(
            f"no {path.name} in {path.parent}", hint="get all files of the model, not only its weights"
        )
    content = read_json(path, error=ModelFilesError)
    if not isinstance(content, dict):
        raise ModelFilesError(f"{path} is not a JSON object", hint="the file is damaged: download it again")
    return content


def _with_tie(config: dict[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Families differ in what a missing tie_word_embeddings means; whether there is a head says it."""
    text = config.get("text_config")
    for values in (text if isinstance(text, dict) else {}, config):
        if values.get("tie_word_embeddings") is not None:
            return {**config, "tie_word_embeddings": values["tie_word_embeddings"]}
    return {**config, "tie_word_embeddings": not any(_HEAD.search(name) for name in tensors)}


def _tensors(stored: Mapping[str, StoredTensor], method: Method | None) -> dict[str, Tensor]:
    named = {_full_name(name): tensor for name, tensor in stored.items() if not _BUFFER.search(name)}
    tensors: dict[str, Tensor] = {}
    if method is not None:
        tensors, named = packed_tensors(named, method)
    tensors |= {name: FloatTensor(name, tensor) for name, tensor in named.items() if tensor.kind in FLOAT_KINDS}
    return _with_joined_experts(tensors)


def _full_name(name: str) -> str:
    """A checkpoint of the decoder without its head lacks the prefix."""
    return f"model.{name}" if name.startswith(("layers.", "embed_tokens.", "norm.")) else name


def _with_joined_experts(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The experts of a layer as one tensor (experts, out, in) for each projection."""
    found: dict[str, Tensor] = {}
    experts: dict[str, dict[int, Tensor]] = defaultdict(dict)
    for name, tensor in tensors.items():
        if (match := _EXPERT.fullmatch(name)) and len(tensor.shape) == 2:
            experts[f"{match[1]}.{match[3]}"][int(match[2])] = tensor
        elif (match := _FUSED.fullmatch(name)) and len(tensor.shape) == 3:
            found.update((one.name, one) for one in _split(match[1], match[2], tensor))
        else:
            found[name] = tensor
    for name, numbered in experts.items():
        found[name] = _stacked(name, numbered)
    return found


def _stacked(name: str, numbered: Mapping[int, Tensor]) -> JoinedTensor:
    shape = numbered[min(numbered)].shape
    for number in range(len(numbered)):
        if number not in numbered:
            raise ModelFilesError(f"expert {number} of {plain(name)} is missing", hint="get all files of the model")
        if numbered[number].shape != shape:
            raise ModelFilesError(
                f"the experts of {plain(name)} differ in shape: {list(shape)} and {list(numbered[number].shape)}",
                hint="the files are damaged: download them again",
            )
    parts = tuple((numbered[number], 0, shape[0]) for number in range(len(numbered)))
    return JoinedTensor(name, (len(parts), *shape), parts)


def _split(experts: str, projection: str, tensor: Tensor) -> Iterable[JoinedTensor]:
    """Fused experts as transformers 5 keeps them: gate_up_proj (experts, 2 · out, in), gate first; down_proj."""
    count, rows, inputs = tensor.shape
    names = ("gate_proj", "up_proj") if projection == "gate_up_proj" else ("down_proj",)
    if rows % len(names):
        raise ModelFilesError(f"{plain(tensor.name)} has {rows} rows per expert, an odd number")
    size = rows // len(names)
    for place, name in enumerate(names):
        first = place * size
        parts = tuple((tensor, expert * rows + first, expert * rows + first + size) for expert in range(count))
        yield JoinedTensor(f"{experts}.{name}.weight", (count, size, inputs), parts)


def _name(folder: Path) -> str:
    """The repository's, where the folder lies in the cache of the Hub."""
    path = folder.absolute()
    cached = _SNAPSHOT.search(path.as_posix())
    return cached[1] if cached else path.name


def _license(folder: Path) -> str:
    """From the front matter of the model card."""
    try:
        text = read_text(folder / "README.md")
    except FileError:
        return ""
    front = re.match(r"---\r?\n(.*?)\r?\n---", text, re.DOTALL)
    if not front:
        return ""
    found = _LICENSE.search(front[1])
    if found and found[1] == "other":
        found = _LICENSE_NAME.search(front[1]) or found
    return found[1] if found else ""
