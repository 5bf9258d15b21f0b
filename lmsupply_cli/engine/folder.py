"""A model folder on the disk, looked at before the engine does: it is untrusted input, and may be incomplete.

Whether it runs here is decided in `runnable`; what would make the engine fail in its own words (or worse) is said there
in one line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from lmsupply_cli.engine.onnx_graph import external_files
from lmsupply_cli.engine.patterns import find_patterns
from lmsupply_cli.engine.runnable import ON_CPU, TRUST, Obstacle, find_obstacles, provider_obstacles
from lmsupply_cli.errors import LmsupplyError, ModelFilesError, ModelNotFound
from lmsupply_cli.files import (
    JSON_BYTES,
    is_file,
    is_folder,
    listed,
    parse_json,
    read_bytes,
    read_json,
    reason_of,
    size_of,
)
from lmsupply_cli.genai_config import (
    CONFIG,
    GENERATION_CONFIG,
    TOKENIZER,
    TOKENIZER_CONFIG,
    declared_provider,
    graph_names,
    token_ids,
    tokenizer_head,
)
from lmsupply_cli.providers import CPU, device_declared

COPY_AGAIN = "copy the folder again from where it came"
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_POINTER_BYTES = 1024
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class ModelFolder:
    """A folder that may be given to the engine: its parsed config and its tokenizer's added tokens.

    `more_eos_ids`: end tokens that only other files than the config name; `trusted`: it may load libraries and leave
    its folder; `again`: how to get its files once more, as a hint.
    """

    path: Path
    config: dict[str, Any]
    added_tokens: tuple[dict[str, Any], ...] = ()
    more_eos_ids: frozenset[int] = frozenset()
    trusted: bool = False
    again: str = COPY_AGAIN
    patterns: tuple[str, ...] = ()  # regular expressions by which its tokenizer cuts and changes text
    decoding: Any = None  # the `decoder` of its tokenizer.json
    begin_ids: tuple[int, ...] = ()  # what its tokenizer puts before a text

    @property
    def added_strings(self) -> frozenset[str]:
        """Every text that the tokenizer turns into one token, whatever stands around it."""
        return frozenset(row["content"] for row in self.added_tokens)

    @property
    def model(self) -> dict[str, Any]:
        model: dict[str, Any] = self.config["model"]
        return model

    @property
    def decoder(self) -> dict[str, Any]:
        decoder: dict[str, Any] = self.model.get("decoder", {})
        return decoder

    @property
    def provider(self) -> str:
        """The execution provider that the config declares, "cpu" where it declares none."""
        return device_declared(declared_provider(self.config)) or CPU.name

    @property
    def eos_ids(self) -> frozenset[int]:
        """The tokens that end an answer: of the config, of generation_config.json and of tokenizer_config.json."""
        return frozenset(token_ids(self.model.get("eos_token_id"))) | self.more_eos_ids

    @property
    def bos_id(self) -> int | None:
        return self._token("bos_token_id")

    @property
    def pad_id(self) -> int | None:
        return self._token("pad_token_id")

    @property
    def search(self) -> dict[str, Any]:
        search: dict[str, Any] = self.config.get("search", {})
        return search

    @property
    def graphs(self) -> list[str]:
        """The ONNX files that the config names."""
        return graph_names(self.config)

    def read_json(self, name: str) -> dict[str, Any]:
        """Another JSON file of the folder, or {} where it is missing or no JSON object."""
        try:
            data = read_json(self.path / name)
        except LmsupplyError:
            return {}
        return data if isinstance(data, dict) else {}

    def _token(self, key: str) -> int | None:
        """An id that the vocabulary has; configs name others (-1, say) for none."""
        value = self.model.get(key)
        return value if isinstance(value, int) and 0 <= value < self.model["vocab_size"] else None


def open_folder(path: Path, *, trust: bool = False, weights: bool = True, again: str = COPY_AGAIN) -> ModelFolder:
    """Check `path`, with its weights where they are needed, and read its config; whether the declared provider is one of ours is said by `check_provider`.

    Raises ModelNotFound, ModelFilesError, UntrustedModelFiles.
    """
    folder, obstacles = look_at_folder(path, again=again)
    lifted = {ON_CPU, TRUST} if trust else {ON_CPU}
    for obstacle in obstacles:
        if not lifted & set(obstacle.lifted_by) and (weights or not obstacle.weights):
            raise obstacle.error()
    return replace(folder, trusted=trust)


def look_at_folder(path: Path, *, again: str = COPY_AGAIN) -> tuple[ModelFolder, tuple[Obstacle, ...]]:
    """What is in `path`, and what is in the way of running it. Raises ModelNotFound, and ModelFilesError where not even
    its config can be used."""
    if not is_folder(path):
        raise ModelNotFound(f"no such folder: {path}", hint="lmsupply models lists what there is")
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise ModelFilesError(
            f"{path} is not a path in UTF-8, and the engine opens no other", hint="rename the folder"
        ) from error
    view = DiskView(path, again)
    if view.size(CONFIG) < 0 and view.absent(CONFIG) == "is missing":
        raise ModelFilesError(
            f"{path} contains no {CONFIG}",
            hint="lmsupply runs folders in ONNX GenAI format, and imports GGUF files and folders of safetensors",
        )
    obstacles = (*_special_files(path), *find_obstacles(view))
    if obstacles and obstacles[0].file == CONFIG and not obstacles[0].lifted_by:
        raise obstacles[0].error()
    config: dict[str, Any] = view.read(CONFIG)
    usable = {name for name in (TOKENIZER, TOKENIZER_CONFIG, GENERATION_CONFIG) if view.size(name) > 0}
    usable -= {obstacle.file for obstacle in obstacles}
    texts = {name: view.read(name) for name in usable}
    tokenizer = texts.get(TOKENIZER, {})
    added = _added_tokens(tokenizer)
    folder = ModelFolder(
        path,
        config,
        added_tokens=added,
        more_eos_ids=_more_eos_ids(path, texts, config, added),
        again=again,
        patterns=find_patterns(tokenizer),
        decoding=tokenizer.get("decoder"),
        begin_ids=_begin_ids(tokenizer, texts.get(TOKENIZER_CONFIG, {}), config),
    )
    return folder, obstacles


def _special_files(folder: Path) -> Iterator[Obstacle]:
    """Pipes, sockets and devices beside the config: who opens one may wait for ever, and the engine opens what it knows."""
    for path in listed(folder):
        if path.exists() and not is_file(path) and not is_folder(path):
            yield Obstacle(f"{path} is not a regular file", hint="remove it", file=path.name)


def check_provider(folder: ModelFolder, provider: str) -> None:
    """May the folder run with the provider that was asked for, "auto" for the one that it declares?

    Any other is used without the options that the folder has for its own. Raises ProviderUnavailable,
    UntrustedModelFiles.
    """
    if provider != "auto":
        return
    for obstacle in provider_obstacles(folder.config):
        if not (folder.trusted and TRUST in obstacle.lifted_by):
            raise obstacle.error()


def _added_tokens(tokenizer: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    return tuple(row for row in tokenizer.get("added_tokens") or [] if "id" in row and "content" in row)


def _more_eos_ids(
    path: Path, texts: Mapping[str, Any], config: dict[str, Any], added: tuple[dict[str, Any], ...]
) -> frozenset[int]:
    """The end tokens that generation_config.json and tokenizer_config.json name and the config does not."""
    found = set(token_ids(texts.get(GENERATION_CONFIG, {}).get("eos_token_id")))
    text = _content(texts.get(TOKENIZER_CONFIG, {}).get("eos_token"))
    named = {row["id"] for row in added if row["content"] == text}
    if text and not named and TOKENIZER in texts:
        named = set(token_ids(_words(path).get(text)))
    size = config["model"]["vocab_size"]
    known = token_ids(config["model"].get("eos_token_id"))
    return frozenset(token for token in found | named if 0 <= token < size and token not in known)


def _words(path: Path) -> dict[str, Any]:
    """The vocabulary, where it is a table of ids."""
    try:
        words = read_json(path / TOKENIZER)["model"]["vocab"]
    except (LmsupplyError, KeyError, TypeError):
        return {}
    return words if isinstance(words, dict) else {}


def _begin_ids(tokenizer: Mapping[str, Any], settings: Mapping[str, Any], config: dict[str, Any]) -> tuple[int, ...]:
    """What the tokenizer itself puts before a text: `add_bos_token` says so, else the post-processor. That a config
    names a begin token does not mean that it is written."""
    size, adds = config["model"]["vocab_size"], settings.get("add_bos_token")
    if adds is False:
        return ()
    found = _template_begin(tokenizer.get("post_processor"))
    if adds is True and not found:
        text = _content(settings.get("bos_token"))
        rows = tokenizer.get("added_tokens") or []
        found = next(
            ([row["id"]] for row in rows if row.get("content") == text and "id" in row),
            token_ids(config["model"].get("bos_token_id"))[:1],
        )
    return tuple(token for token in found if 0 <= token < size)


def _template_begin(processor: Any) -> list[int]:
    """The ids in front of the text in a TemplateProcessing, also inside a Sequence."""
    level = [processor]
    while level:
        one = level.pop()
        match one:
            case {"type": "Sequence", "processors": [*parts]}:
                level += parts
            case {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": str(name)}}, *_]}:
                row = (one.get("special_tokens") or {}).get(name)
                return token_ids(row.get("ids")) if isinstance(row, dict) else []
    return []


def _content(value: Any) -> str:
    """A special token is written as a text, or as an object with its content."""
    text = value.get("content") if isinstance(value, dict) else value
    return text if isinstance(text, str) else ""


class DiskView:
    """A FolderView of a folder on the disk. Of a tokenizer.json it may read the head alone."""

    def __init__(self, path: Path, again: str = COPY_AGAIN) -> None:
        self.path, self.again = path, again
        self._read: dict[str, Any] = {}

    def shown(self, name: str) -> str:
        return str(self.path / name)

    def size(self, name: str) -> int:
        return size_of(self.path / name)

    def absent(self, name: str) -> str:
        path = self.path / name
        try:
            if path.exists():
                return "is not a regular file"
            return "is a dangling link" if path.is_symlink() else "is missing"
        except (OSError, ValueError):
            return "cannot be looked at"

    def read(self, name: str) -> Any:
        if name not in self._read:
            path = self.path / name
            damaged = f"{path} is damaged: it"
            data = read_bytes(path, limit_bytes=JSON_BYTES, error=ModelFilesError)
            if name == CONFIG and data.startswith(_BYTE_ORDER_MARK):
                raise ModelFilesError(
                    f"{path} begins with a byte order mark, which the engine does not take",
                    hint="save it as UTF-8 without one",
                )
            head = tokenizer_head(data) if name == TOKENIZER else data
            value = parse_json(head, damaged, error=ModelFilesError)
            self._read[name] = [] if value is None else value  # None stands for what is not known; neither is an object
        return self._read[name]

    def is_pointer(self, name: str) -> bool:
        if not 0 < self.size(name) <= _POINTER_BYTES:
            return False
        data = read_bytes(self.path / name, limit_bytes=_POINTER_BYTES, error=ModelFilesError)
        return data.startswith(_LFS_POINTER)

    def data(self, graph: str) -> Mapping[str, int]:
        if graph.endswith(".ort"):  # another format, which holds its weights itself
            return {}
        try:
            return external_files(self.path / graph)
        except OSError as error:
            raise ModelFilesError(f"cannot read {self.path / graph}: {reason_of(error)}") from error

    def leaves(self, graph: str, name: str) -> bool:
        """As the engine sees it: links count, and the folder of the graph itself is a right place as well."""
        location = PurePosixPath(name.replace("\\", "/"))
        if location.is_absolute() or PureWindowsPath(name).is_absolute():
            return True
        path = self.path / graph
        try:
            target, places = (path.parent / location).resolve(), (path.parent.resolve(), path.resolve().parent)
        except (OSError, RuntimeError, ValueError):
            return True
        return not any(target.is_relative_to(place) for place in places)
