"""What a model of a repository can be imported from: a GGUF file (or its parts), or safetensors with their config.

A GGUF file is chosen by the quantization in its name: Q4_K_M, then its neighbors of 4 bits, then those of 8, 6 and 5 bits,
then the coarse ones, then floats. What counts is what the import makes of them: codes of 5 and 6 bits become 8 bits, so
that Q8_0 is more exact than Q6_K and Q5_K, and smaller; IQ4 and MXFP4 become as large as Q8_0.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import NamedTuple

from lmsupply_cli.errors import ModelNotFound, UsageError
from lmsupply_cli.genai_config import CONFIG
from lmsupply_cli.hub.resolve import VariantWish
from lmsupply_cli.hub.tree import RepoFile, RepoTree
from lmsupply_cli.hub.variant import LICENSE_FILE, TOKENIZER_FILES, what_it_is
from lmsupply_cli.units import format_bytes

GGUF, SAFETENSORS = "gguf", "safetensors"
MODEL_CONFIG = "config.json"
SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
PARTS = re.compile(r"-(?P<number>[0-9]{5})-of-(?P<count>[0-9]{5})$")
CONFIG_FILES = (
    MODEL_CONFIG, "generation_config.json", "quantize_config.json", "quant_config.json", *TOKENIZER_FILES,
    "chat_template.json",
)  # fmt: skip
_NO_MODEL = re.compile(r"mmproj|imatrix", re.IGNORECASE)
_QUANTIZATION = re.compile(
    r"(?<![a-z0-9])"
    r"((ud-)?(iq[1-4]_(xxs|xs|s|m|nl)|q[2-8]_k(_(xxs|xs|s|m|l|xl))?|q[4-8]_[01](_[48]_[48])?|q[2-8])"
    r"|tq[12]_0|mxfp4(_moe)?|bf16|f16|fp16|f32|fp32)"
    r"(?![a-z0-9])",
    re.IGNORECASE,
)
_ORDER = (
    "Q4_K_M", "UD-Q4_K_XL", "Q4_K_XL", "Q4_K_L", "Q4_K_S", "Q4_K", "Q4", "Q4_1", "Q4_0", "Q4_0_4_4", "Q4_0_4_8", "Q4_0_8_8",
    "Q8_0", "Q8", "UD-Q8_K_XL", "Q8_K", "Q6_K", "UD-Q6_K_XL", "Q6_K_L", "Q6",
    "Q5_K_M", "UD-Q5_K_XL", "Q5_K_XL", "Q5_K_L", "Q5_K_S", "Q5_K", "Q5", "Q5_1", "Q5_0",
    "MXFP4", "MXFP4_MOE", "IQ4_NL", "UD-IQ4_NL", "IQ4_XS", "UD-IQ4_XS",
    "Q3_K_L", "Q3_K_XL", "UD-Q3_K_XL", "Q3_K_M", "Q3_K", "Q3_K_S", "IQ3_M", "IQ3_S", "IQ3_XS", "IQ3_XXS",
    "F16", "FP16", "BF16", "F32", "FP32",
)  # fmt: skip
_PRECISION = re.compile(
    r"(?P<int4>(UD-)?(Q4|IQ4|MXFP4).*)|(?P<int8>(UD-)?Q8.*)|(?P<fp16>FP?16)|(?P<bf16>BF16)|(?P<fp32>FP?32)"
)
_SAME = {"fp16": ("fp16", "bf16"), "bf16": ("bf16", "fp16")}  # 16 bits are as good as 16 bits
_PICKLES = re.compile(r"(^|/)(pytorch_model|consolidated|model)[^/]*\.(bin|pth|pt)$")


@dataclass(frozen=True)
class SourceVariant:
    """What one model is imported from. `name`: what chooses it, behind `owner/repo:`; `quantization` and `precision` as
    the file's name tells, else ""; `files`: in the order of their parts; `licenses`: texts that travel with the weights;
    `lacking`: parts that the repo does not have."""

    format: str
    name: str
    files: tuple[RepoFile, ...]
    quantization: str = ""
    precision: str = ""
    model: str = ""
    licenses: tuple[RepoFile, ...] = ()
    lacking: int = 0

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)

    @property
    def weights(self) -> tuple[RepoFile, ...]:
        return tuple(file for file in self.files if file.path.lower().endswith((".gguf", ".safetensors")))


class Room(NamedTuple):
    """`bytes`: the largest import that fits the memory of this machine; `imported_bytes`: the size of that of a source."""

    bytes: int
    imported_bytes: Callable[[SourceVariant], int]

    def fits(self, source: SourceVariant) -> bool:
        return self.imported_bytes(source) <= self.bytes


class SourceChoice(NamedTuple):
    """What was chosen and why, and why each other one was not."""

    chosen: SourceVariant
    reasons: tuple[str, ...]
    rejected: tuple[tuple[SourceVariant, str], ...]


def quantization_of(name: str) -> str:
    """The quantization that a file's name states, as llama.cpp spells it; "" if it states none."""
    found = [match[1] for match in _QUANTIZATION.finditer(name)]
    return found[-1].upper() if found else ""


def precision_of(quantization: str) -> str:
    """The precision that a quantization stands for; "" for one between two of them."""
    match = _PRECISION.fullmatch(quantization)
    return (match.lastgroup or next(name for name, text in match.groupdict().items() if text)) if match else ""


def find_sources(tree: RepoTree) -> list[SourceVariant]:
    """Everything in the repo that holds a whole model, by name: GGUF first. Raises HubError for a path that is not safe."""
    licenses = tuple(file for path, file in tree.files.items() if LICENSE_FILE.search(path))
    found = [*_gguf_sources(tree), *_safetensors_sources(tree)]
    return [replace(source, licenses=licenses) for source in found]


def wants_source(tree: RepoTree, wish: VariantWish) -> bool:
    """Whether to import rather than to take a variant: the repo has none, or the wish names a source."""
    folders = [str(PurePosixPath(path).parent).lower() for path in tree.files if PurePosixPath(path).name == CONFIG]
    if not folders:
        return bool(find_sources(tree)) or _only_pickles(tree) or bool(_misnamed(tree))
    word = (wish.variant or "").strip("/").lower()
    return bool(word) and not any(word in folder for folder in folders) and bool(_asked_for(find_sources(tree), word))


def choose_source(tree: RepoTree, wish: VariantWish, room: Room | None = None) -> SourceChoice:
    """The best source whose import fits `room`; where none does, that with the smallest import.

    Raises ModelNotFound where there is nothing to import, UsageError for a wish that is unclear or has no match.
    """
    every = find_sources(tree)
    whole = [source for source in every if not source.lacking]
    if not whole:
        raise _nothing(tree, every)
    rejected = [(source, f"{source.lacking} of its parts are missing") for source in every if source.lacking]
    left = whole
    if wish.variant:
        left = _named(whole, wish.variant)
        rejected += [(source, "another one was asked for") for source in whole if source not in left]
    left, others = _of_one_format(left, wish)
    rejected += others
    _one_model(left)
    best, *behind = sorted(left, key=_ranking(wish, room))
    reasons = _reasons(best, left, whole, wish, room)
    if wish.variant:
        reasons = ("the best of what you asked for", *reasons) if behind else ("you asked for it",)
    rejected += [(source, _why_behind(source, best, room)) for source in behind]
    return SourceChoice(best, reasons, tuple(rejected))


def _gguf_sources(tree: RepoTree) -> list[SourceVariant]:
    groups: dict[tuple[str, int], list[RepoFile]] = {}
    for path in sorted(tree.files):
        if path.lower().endswith(".gguf") and not _NO_MODEL.search(path):
            stem = path[: -len(".gguf")]
            parts = PARTS.search(stem)
            groups.setdefault((PARTS.sub("", stem), int(parts["count"]) if parts else 1), []).append(tree.files[path])
    found = []
    for (stem, count), files in groups.items():
        folder, _, name = stem.rpartition("/")
        quantization = quantization_of(name) or quantization_of(folder)
        found.append(
            SourceVariant(
                GGUF,
                quantization.lower(),
                tuple(files),
                quantization,
                precision_of(quantization),
                _model_of(stem),
                lacking=max(0, count - len(files)),
            )
        )
    models = {source.model for source in found}
    taken = Counter(source.name for source in found)
    plain = [not source.name or taken[source.name] > 1 or len(models) > 1 for source in found]
    stems = [stem for stem, _ in groups]
    return [replace(s, name=stem.lower()) if p else s for s, p, stem in zip(found, plain, stems, strict=True)]


def _model_of(stem: str) -> str:
    """What tells models of one repo apart: the path without its quantization."""
    return re.sub(r"[-_. /]+", "-", _QUANTIZATION.sub("", stem).lower()).strip("-")


def _safetensors_sources(tree: RepoTree) -> list[SourceVariant]:
    """The folders with config.json and weights; those below one that has them are parts of it."""
    folders = sorted({_parent(path) for path in tree.files if path.lower().endswith(".safetensors")}, key=len)
    found: list[SourceVariant] = []
    for folder in folders:
        names = {
            path[len(folder) + bool(folder) :]: file for path, file in tree.files.items() if _parent(path) == folder
        }
        weights, lacking = weight_files(names)
        if MODEL_CONFIG not in names or not weights:
            continue
        wanted = [*weights, *(name for name in CONFIG_FILES if name in names)]
        wanted += [INDEX] if INDEX in names else []
        files = tuple(names[name] for name in dict.fromkeys(wanted))
        found.append(SourceVariant(SAFETENSORS, folder.lower() or SAFETENSORS, files, model=folder, lacking=lacking))
        if not folder:
            break
    return found


def weight_files(names: Collection[str]) -> tuple[list[str], int]:
    """(the safetensors files of one folder that make up its model, how many parts are missing): model.safetensors where that
    is there, else the parts that model.safetensors.index.json lists; nothing where they are of several models, or of
    another name, which nothing reads."""
    found = sorted(name for name in names if name.endswith(".safetensors"))
    if SINGLE in found:
        return [SINGLE], 0
    groups: dict[tuple[str, int], list[str]] = {}
    for name in found:
        stem = name.removesuffix(".safetensors")
        if parts := PARTS.search(stem):
            groups.setdefault((PARTS.sub("", stem), int(parts["count"])), []).append(name)
    known = [key for key in groups if key[0] == "model"] or list(groups)
    if len(known) != 1 or INDEX not in names:
        return [], 0
    return groups[known[0]], max(0, known[0][1] - len(groups[known[0]]))


def _nothing(tree: RepoTree, incomplete: Sequence[SourceVariant]) -> ModelNotFound:
    if incomplete:
        names = ", ".join(source.name for source in incomplete)
        return ModelNotFound(f"{tree.repo} lacks parts of {names}", hint="it may still be uploaded; try another repo")
    if _only_pickles(tree):
        return ModelNotFound(
            f"{tree.repo} has its weights as PyTorch pickles only, which can run code when they are loaded",
            hint="look for the same model as safetensors or GGUF",
        )
    if misnamed := _misnamed(tree):
        return ModelNotFound(
            f"{tree.repo} has its weights in {misnamed}, a name that does not say that they are the model",
            hint=f"lmsupply imports {SINGLE}, or the parts that {INDEX} lists",
        )
    return ModelNotFound(
        f"{tree.repo} contains no model that can be imported: {what_it_is(tree)}",
        hint="lmsupply imports GGUF files, and safetensors with a config.json",
    )


def _only_pickles(tree: RepoTree) -> bool:
    return any(_PICKLES.search(path) for path in tree.files) and not find_sources(tree)


def _misnamed(tree: RepoTree) -> str:
    """The safetensors beside config.json that are no model by their names; "" where there are none, or other sources."""
    names = [path for path in sorted(tree.files) if path.endswith(".safetensors") and "/" not in path]
    if MODEL_CONFIG not in tree.files or find_sources(tree):
        return ""
    return next((name for name in names if not name.startswith("adapter")), "")


def _asked_for(sources: Sequence[SourceVariant], word: str) -> list[SourceVariant]:
    """Those of that format, of that name or quantization, in that file, or with it in their names."""
    tests: tuple[Callable[[SourceVariant], bool], ...] = (
        lambda s: s.format == word,
        lambda s: word in (s.name, s.quantization.lower()),
        lambda s: any(word in _spellings(file.path) for file in s.files),
        lambda s: any(word in file.path.lower() for file in s.weights),
    )
    return next((found for test in tests if (found := [source for source in sources if test(source)])), [])


def _spellings(path: str) -> tuple[str, ...]:
    name = path.lower()
    stem = name.removesuffix(".gguf")
    return name, stem, name.rpartition("/")[2], stem.rpartition("/")[2]


def _named(sources: Sequence[SourceVariant], wanted: str) -> list[SourceVariant]:
    found = _asked_for(sources, wanted.strip("/").lower())
    if not found:
        raise UsageError(f"nothing in the repo matches {wanted!r}", hint="it has " + _names(sources))
    return found


def _of_one_format(
    sources: list[SourceVariant], wish: VariantWish
) -> tuple[list[SourceVariant], list[tuple[SourceVariant, str]]]:
    """(GGUF files, of the wanted precision if no other will do, else safetensors, the others with the reason). Raises
    UsageError."""
    gguf = [source for source in sources if source.format == GGUF]
    rest = [source for source in sources if source.format != GGUF]
    wanted = _SAME.get(wish.precision, (wish.precision,))
    if not gguf or not wish.exact or wish.precision == "auto":
        return (gguf, [(s, "GGUF comes first") for s in rest]) if gguf else (rest, [])
    same = [source for source in gguf if source.precision in wanted]
    others = [(source, f"not {wish.precision}") for source in gguf if source not in same]
    if same:
        return same, [*others, *((source, "GGUF comes first") for source in rest)]
    if rest:
        return rest, others
    raise UsageError(
        f"the repo has no GGUF file in {wish.precision}",
        hint=f"it has {_names(gguf)}; name one as owner/repo:NAME, or leave out `precision`",
    )


def _one_model(sources: Sequence[SourceVariant]) -> None:
    if len({source.model for source in sources}) > 1 or len({source.name for source in sources}) < len(sources):
        raise UsageError("the repo holds several models", hint="name one as owner/repo:NAME, of: " + _names(sources))


def _ranking(wish: VariantWish, room: Room | None) -> Callable[[SourceVariant], tuple[object, ...]]:
    stated = not wish.by_machine and wish.precision not in ("auto", "int4")
    preferred = _SAME.get(wish.precision, (wish.precision,)) if stated else ()

    def rank(source: SourceVariant) -> tuple[object, ...]:
        order = _ORDER.index(source.quantization) if source.quantization in _ORDER else len(_ORDER)
        too_large = room.imported_bytes(source) if room and not room.fits(source) else 0
        return too_large, bool(preferred) and source.precision not in preferred, order, source.size_bytes, source.name

    return rank


def _reasons(
    best: SourceVariant,
    sources: Sequence[SourceVariant],
    every: Sequence[SourceVariant],
    wish: VariantWish,
    room: Room | None,
) -> tuple[str, ...]:
    """`sources`: those that were left to choose from, of `every` one in the repo."""
    ggufs = [source for source in every if source.format == GGUF]
    if best.format == SAFETENSORS:
        return (f"no GGUF file is in {wish.precision}" if ggufs else "the repository has neither ONNX nor GGUF",)
    if len(sources) == 1:
        return ("the only GGUF file" if len(ggufs) == 1 else f"the only one in {best.precision or best.name}",)
    if room and not room.fits(best):
        return ("the smallest once imported: none fits the available memory",)
    if room and min(sources, key=_ranking(wish, None)) != best:
        return ("the best that fits the available memory",)
    if not wish.by_machine and best.precision and best.precision in _SAME.get(wish.precision, (wish.precision,)):
        return (best.precision,)
    usual = best.quantization in _ORDER[:1]
    return ("the usual compromise of size and quality" if usual else "the best compromise of size and quality there",)


def _why_behind(source: SourceVariant, best: SourceVariant, room: Room | None) -> str:
    if room and not room.fits(source):
        size = f"{format_bytes(room.imported_bytes(source))} once imported"
        return f"{size}, more than fits the available memory" if room.fits(best) else size
    return f"{best.quantization or best.name} is preferred"


def _names(sources: Sequence[SourceVariant]) -> str:
    return ", ".join(source.name for source in sources)


def _parent(path: str) -> str:
    return path.rpartition("/")[0]
