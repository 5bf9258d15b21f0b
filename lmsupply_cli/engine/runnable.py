"""Can a model folder run here, and if not, why? One function for a folder on the disk and for one in a repo.

A genai_config.json may ask for anything that the engine can do: load libraries, write profiles, read files anywhere.
So what it may ask for is listed, and the rest needs --trust-model-files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any, Protocol

from lmsupply_cli.errors import LmsupplyError, ModelFilesError, ProviderUnavailable, UntrustedModelFiles
from lmsupply_cli.genai_config import (
    CONFIG,
    GENERATION_CONFIG,
    TOKENIZER,
    TOKENIZER_CONFIG,
    declared_provider,
    file_problem,
    graph_names,
    shown,
)
from lmsupply_cli.providers import provider_declared

TRUST, ON_CPU = "`trust_model_files`", "`provider=cpu`"
CHAT_TYPES = frozenset((
    "chatglm", "decoder", "decoder-pipeline", "ernie4_5", "gemma", "gemma2", "gemma3_text", "gemma3_vl_text",
    "gemma4_text", "gpt2", "gptoss", "granite", "granitemoehybrid", "hunyuandensev1", "internlm2", "lfm2",
    "lfm2_audio_text", "lfm2_moe", "lfm2_vl_text", "llama", "mistral", "mistral3_text", "nemotron", "olmo", "phi",
    "phi3", "phi3small", "phimoe", "qwen2", "qwen2_5_vl_text", "qwen3", "qwen3_5_moe_text", "qwen3_5_text",
    "qwen3_vl_text", "smollm3",
))  # fmt: skip
_SPEECH, _VISION, _BOTH = "reads speech", "reads pictures", "reads pictures and sound"
_OTHER_TYPES: Mapping[str, str] = {
    "whisper": _SPEECH, "moonshine": _SPEECH, "parakeet_tdt": _SPEECH, "nemotron_speech": _SPEECH, "lfm2_audio": _SPEECH,
    "marian-ssru": "translates", "fara": _VISION, "gemma3": _VISION, "lfm2_vl": _VISION, "mistral3": _VISION,
    "phi3v": _VISION, "qwen2_5_vl": _VISION, "qwen3_5": _VISION, "qwen3_5_moe": _VISION, "qwen3_vl": _VISION,
    "videochat_flash_qwen": _VISION, "gemma4": _BOTH, "gemma4_unified": _BOTH, "phi4mm": _BOTH,
}  # fmt: skip
_SESSION = frozenset((
    "enable_cpu_mem_arena", "enable_mem_pattern", "graph_optimization_level", "inter_op_num_threads",
    "intra_op_num_threads", "log_id", "log_severity_level", "log_verbosity_level", "provider_options",
    "ep.share_ep_contexts", "session.allow_released_opsets_only", "session.disable_aot_function_inlining",
    "session.disable_cpu_ep_fallback", "session.disable_double_qdq_remover", "session.disable_prepacking",
    "session.disable_qdq_constant_folding", "session.disable_quant_qdq", "session.dynamic_block_base",
    "session.enable_dq_matmulnbits_fusion", "session.enable_quant_qdq_cleanup", "session.force_spinning_stop",
    "session.gqa_value_layout", "session.graph_optimizations_loop_level", "session.inter_op.allow_spinning",
    "session.intra_op.allow_spinning", "session.intra_op_thread_affinities", "session.prepack.enable_parallel",
    "session.qdq_matmulnbits_accuracy_level", "session.qdq_matmulnbits_block_size", "session.qdqisint8allowed",
    "session.set_denormal_as_zero", "session.strict_shape_type_inference", "session.use_deterministic_compute",
    "session.use_device_allocator_for_initializers", "session.use_env_allocators",
    "session.use_ort_model_bytes_directly", "session.use_ort_model_bytes_for_initializers", "session.x64quantprecision",
    "mlas.disable_kleidiai", "mlas.qnbit.force_fp32", "mlas.use_lut_gemm", "optimization.disable_specified_optimizers",
    "optimization.enable_cast_chain_elimination", "optimization.enable_gelu_approximation",
))  # fmt: skip
_RUN = frozenset(("disable_synchronize_execution_providers", "gpu_graph_id", "memory.enable_memory_arena_shrinkage"))
_LOADS_CODE = re.compile(r"custom_op|library|shared_lib|plugin|entry_point|\bdll\b", re.IGNORECASE)
_LIBRARY = re.compile(r"\.(so(\.\d+)*|dll|dylib|pyd|py)$", re.IGNORECASE)
_ABSOLUTE = re.compile(r"^([/\\]|[A-Za-z]:[/\\]|file:|~[/\\])")
_DECODER_OPTIONS = "model.decoder.session_options"
_OFF: tuple[Any, ...] = ("", None, False, [], {})


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why a folder does not run here. `lifted_by`: the flags of which each lets it run all the same; `loads`: it
    wants a library; `weights`: only they are wrong, which a prompt does not need; `file`: the one that is wrong, ""
    for none."""

    text: str
    hint: str = ""
    lifted_by: tuple[str, ...] = ()
    file: str = ""
    loads: bool = False
    weights: bool = False
    kind: type[LmsupplyError] = ModelFilesError

    @property
    def note(self) -> str:
        return f"{self.text}; {self.hint}" if self.hint else self.text

    def error(self) -> LmsupplyError:
        return self.kind(self.text, hint=self.hint)


class FolderView(Protocol):
    """What is known of a folder, on the disk or in a repo; names are relative to it."""

    again: str  # a hint: how to get its files once more

    def shown(self, name: str) -> str:
        """A file as messages name it."""

    def size(self, name: str) -> int:
        """Bytes; -1 where there is no regular file."""

    def absent(self, name: str) -> str:
        """Of a file without a size: "is missing", or what is there instead."""

    def read(self, name: str) -> Any:
        """The parsed JSON file, None if it is not known. Raises ModelFilesError."""

    def is_pointer(self, name: str) -> bool:
        """Is it a Git LFS pointer in place of the file?"""

    def data(self, graph: str) -> Mapping[str, int]:
        """The files, as the graph names them, that hold its weights, with the least bytes of each; nothing where that
        is not known. Raises ValueError for a file that is no graph."""

    def leaves(self, graph: str, name: str) -> bool:
        """Does the file that the graph names lie outside of the folder?"""


def find_obstacles(view: FolderView) -> tuple[Obstacle, ...]:
    """All that is in the way, the first to be told first; () for a folder that runs."""
    if unusable := _json_obstacle(view, CONFIG, needed=True):
        return (unusable,)
    config: dict[str, Any] | None = view.read(CONFIG)
    if config is None:
        return ()
    found = [*_untrusted(config), *_kind(config), *provider_obstacles(config)]
    for name in graph_names(config):
        found += _graph(view, name)
    for name in (TOKENIZER, TOKENIZER_CONFIG, GENERATION_CONFIG):
        if problem := _json_obstacle(view, name, needed=name != GENERATION_CONFIG):
            found.append(problem)
    return tuple(found)


def provider_obstacles(config: Mapping[str, Any]) -> Iterator[Obstacle]:
    """What stands against the provider that the config declares, with the options that it gives it."""
    name = declared_provider(config)
    if name and provider_declared(name) is None:
        yield Obstacle(
            f"its {CONFIG} declares the provider {name}, which lmsupply does not support",
            hint=f"{ON_CPU} may run it; not every folder made for {name} does",
            lifted_by=(ON_CPU,),
            kind=ProviderUnavailable,
        )
        return
    rows = config["model"].get("decoder", {}).get("session_options", {}).get("provider_options", [])
    yield from _options(rows, f"{_DECODER_OPTIONS}.provider_options", lifted_by=(ON_CPU, TRUST))


def _kind(config: Mapping[str, Any]) -> Iterator[Obstacle]:
    kind = config["model"]["type"]
    if what := _OTHER_TYPES.get(kind):
        yield Obstacle(
            f"it is not a chat model: a model of type {kind} {what}",
            hint="lmsupply runs models that read and write text; lmsupply models lists some",
        )
    elif kind not in CHAT_TYPES:
        yield Obstacle(
            f"the engine does not know this kind of model: {shown(kind)}",
            hint="the folder may be made for a newer engine; lmsupply hw shows which one is installed",
        )


def _graph(view: FolderView, name: str) -> Iterator[Obstacle]:
    if found := _file(view, name):
        yield found
        return
    try:
        named = view.data(name)
    except ValueError:
        yield Obstacle(
            f"cannot load {view.shown(name)}: it is not an ONNX graph, or not all of one", hint=view.again, file=name
        )
        return
    for data, least in named.items():
        location = PurePosixPath(data.replace("\\", "/"))
        path = (PurePosixPath(name).parent / location).as_posix()
        dangling = view.size(path) < 0 and ".." not in location.parts and not _ABSOLUTE.match(data)
        if view.leaves(name, data) and not dangling:
            yield Obstacle(
                f"{view.shown(name)} names weights outside its folder: {shown(data)}",
                hint="put the weights beside the graph; the engine reads them nowhere else",
                kind=UntrustedModelFiles,
                file=name,
            )
        elif found := _file(view, path, least=least):
            yield replace(found, weights=True)


def _file(view: FolderView, name: str, *, least: int = 1) -> Obstacle | None:
    """What is wrong with a file from outside: missing, a pointer, empty, short."""
    size = view.size(name)
    if size < 0:
        return Obstacle(f"{view.shown(name)} {view.absent(name)}", hint=view.again, file=name)
    if view.is_pointer(name):
        hint = "run git lfs pull in that folder, or use lmsupply pull"
        return Obstacle(f"{view.shown(name)} is a Git LFS pointer, not the file itself", hint=hint, file=name)
    if size >= least:
        return None
    if size == 0:
        what = f"; {least:,} bytes are expected" if least > 1 else ""
        return Obstacle(f"{view.shown(name)} is empty{what}", hint=view.again, file=name)
    return Obstacle(
        f"{view.shown(name)} has {size:,} bytes; at least {least:,} are expected", hint=view.again, file=name
    )


def _json_obstacle(view: FolderView, name: str, *, needed: bool) -> Obstacle | None:
    if view.size(name) < 0 and not needed and view.absent(name) == "is missing":
        return None
    if found := _file(view, name):
        return found
    try:
        value = view.read(name)
    except ModelFilesError as error:
        return Obstacle(error.message, hint=error.hint or view.again, file=name)
    if value is None:
        return None
    if problem := file_problem(name, value):
        hint = "correct it there, or take another copy of the model"
        if name == TOKENIZER_CONFIG and isinstance(value, dict) and isinstance(value.get("chat_template"), list):
            hint = "keep one template: as a text, or in a file of its own, chat_template.jinja"
        return Obstacle(f"{view.shown(name)}: {problem}", hint=hint, file=name)
    return None


def _untrusted(config: Mapping[str, Any]) -> Iterator[Obstacle]:
    """What the config asks for beyond the lists, outside of the decoder's provider options."""
    for place, options in _option_blocks(config, ""):
        allowed = _RUN if place.endswith("run_options") else _SESSION
        for key, value in options.items():
            if key == "provider_options" and place != _DECODER_OPTIONS:
                yield from _options(value, f"{place}.provider_options")
            elif key not in allowed and value not in _OFF:
                yield _refused(f"{place}.{key}", key, value)
    for place, key, value in _values(config, ""):
        if _LOADS_CODE.search(key) and value not in _OFF:
            yield _refused(place, key, value)
        elif not isinstance(value, str):
            continue
        elif _LIBRARY.search(value):
            yield _refused(place, key, value)
        elif _ABSOLUTE.match(value) or ".." in PurePosixPath(value.replace("\\", "/")).parts:
            yield Obstacle(
                f"{CONFIG} names a path outside the folder: {place} = {shown(value)}",
                hint=_IF_TRUSTED,
                lifted_by=(TRUST,),
                kind=UntrustedModelFiles,
                file=CONFIG,
            )


_IF_TRUSTED = f"if you trust whoever made this folder: {TRUST}"


def _options(rows: Any, place: str, lifted_by: tuple[str, ...] = (TRUST,)) -> Iterator[Obstacle]:
    for at, row in enumerate(rows):
        for name, options in row.items():
            provider = provider_declared(name.lower().removesuffix("executionprovider"))
            known = provider.options if provider else frozenset[str]()
            for key, value in options.items():
                if key not in known and key != "device_filtering_options" and value not in _OFF:
                    yield _refused(f"{place}[{at}].{name}.{key}", key, value, lifted_by)


def _refused(place: str, key: str, value: Any, lifted_by: tuple[str, ...] = (TRUST,)) -> Obstacle:
    loads = bool(_LOADS_CODE.search(key) or (isinstance(value, str) and _LIBRARY.search(value)))
    what = "wants to load a library" if loads else "sets an option that lmsupply does not allow"
    return Obstacle(
        f"{CONFIG} {what}: {place} = {shown(value)}",
        hint=_IF_TRUSTED,
        lifted_by=lifted_by,
        kind=UntrustedModelFiles,
        file=CONFIG,
        loads=loads,
    )


def _option_blocks(value: Any, place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, options) of each block of session or run options."""
    if isinstance(value, dict):
        for name, inner in value.items():
            here = f"{place}.{name}".lstrip(".")
            if name in ("session_options", "run_options") and isinstance(inner, dict):
                yield here, inner
            else:
                yield from _option_blocks(inner, here)
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            yield from _option_blocks(inner, f"{place}[{at}]")


def _values(value: Any, place: str, key: str = "") -> Iterator[tuple[str, str, Any]]:
    """Every value outside of those blocks and of the names of inputs and outputs; one that loads code also whole."""
    if isinstance(value, dict):
        for name, inner in value.items():
            here = f"{place}.{name}".lstrip(".")
            if name in ("session_options", "run_options", "inputs", "outputs"):
                continue
            if _LOADS_CODE.search(name) and isinstance(inner, (dict, list)):
                yield here, name, inner
            else:
                yield from _values(inner, here, name)
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            yield from _values(inner, f"{place}[{at}]", key)
    else:
        yield place, key, value
