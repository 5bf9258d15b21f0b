"""The only door to ONNX Runtime GenAI: models, tokenizers and decoders of the real engine.

One minor of the engine is tested; another one is refused by name. Telemetry of the official
wheels is switched off before the import, since after it that has no effect.
"""

from __future__ import annotations

import json
import os
import re
import weakref
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any

from lmsupply_cli.engine.base import Decoder, ModelShape
from lmsupply_cli.engine.cancel import interrupts_deferred
from lmsupply_cli.engine.detokenizer import Detokenizer
from lmsupply_cli.engine.folder import ModelFolder, check_provider
from lmsupply_cli.engine.genai_decoders import GenaiBatch, GenaiDecoder, RestartingDecoder, as_array
from lmsupply_cli.engine.genai_errors import load_error, run_error
from lmsupply_cli.engine.guidance import Guidance
from lmsupply_cli.engine.matcher import GuidanceVocabulary, Matcher
from lmsupply_cli.engine.tokenizer import load_tokenizer
from lmsupply_cli.errors import EngineError, EngineUnavailable, ModelFilesError, ProviderUnavailable, UsageError
from lmsupply_cli.hardware.host import give_back_memory
from lmsupply_cli.providers import RESTARTING as RESTARTING
from lmsupply_cli.providers import ROWS, Plugin

TESTED = "0.18"
# What the folder's config asks for is among our options, or overruled by them: it must not be applied once more.
_PLAIN = {"do_sample": False, "num_beams": 1, "num_return_sequences": 1, "min_length": 0, "repetition_penalty": 1.0,
          "no_repeat_ngram_size": 0, "temperature": 1.0, "top_k": 0, "top_p": 1.0}  # fmt: skip
_LAST_ONLY = "this model returns scores only for the last token"


def import_engine() -> Any:
    """The engine's module, silenced. Raises EngineUnavailable."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    try:
        with interrupts_deferred():
            import onnxruntime_genai as engine
    except ImportError as error:
        raise EngineUnavailable(
            f"the engine cannot be imported: {error}",
            hint=f"pip install 'onnxruntime-genai~={TESTED}.0'; lmsupply hw tells more",
        ) from error
    version = getattr(engine, "__version__", "unknown")
    if not re.match(rf"{re.escape(TESTED)}(\.|$)", version):
        raise EngineUnavailable(
            f"onnxruntime-genai {version} is installed; lmsupply is tested with {TESTED}.x",
            hint=f"pip install 'onnxruntime-genai~={TESTED}.0'",
        )
    return engine


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """`shares_cores` with another model, which takes turns with it; `keep_full_window`: needed to rewind rejected draft
    tokens, a layer with a sliding window keeps the whole context (the engine rewinds none that has dropped something);
    `longrope_threshold` as in ModelShape."""

    provider: str = "auto"
    threads: int = 1
    shares_cores: bool = False
    keep_full_window: bool = False
    longrope_threshold: int = 0


class GenaiModel:
    """A TextModel of the engine. Close it, or use it in `with`."""

    def __init__(
        self, folder: ModelFolder, options: EngineOptions | None = None, *, visible: Collection[str] = ()
    ) -> None:
        """`visible`: control strings that are shown, where others are not. Raises ModelFilesError, ProviderUnavailable,
        EngineUnavailable."""
        options = options or EngineOptions()
        provider, threads = options.provider, options.threads
        self._engine = import_engine()
        self._decoders: weakref.WeakSet[GenaiDecoder | RestartingDecoder | GenaiBatch] = weakref.WeakSet()
        self._folder = folder
        self._has_draft_model = "draft" in folder.model  # its config names one
        self._contents = {row["id"]: row["content"] for row in folder.added_tokens}
        model = folder.model
        check_provider(folder, provider)
        try:
            # before the weights: what it takes while it loads is free again then
            self._tokenizer = load_tokenizer(folder, visible=visible)
            give_back_memory()
            config = self._engine.Config(str(folder.path))
            name = self._choose_provider(config, folder, provider)
            config.overlay(_overlay(folder, options))
            self._model: Any = self._engine.Model(config)
        except (RuntimeError, MemoryError, ValueError) as error:
            raise load_error(error, folder.path, provider=provider, again=folder.again) from error
        self.hidden_ids = self._tokenizer.hidden_ids
        self.tokenizer_note = self._tokenizer.note
        self._window = _window(folder.decoder)
        self._restarts = name in RESTARTING
        self.shape = ModelShape(
            folder=folder.path,
            type=model["type"],
            context_length=model["context_length"],
            vocabulary=model["vocab_size"],
            eos_ids=folder.eos_ids,
            bos_id=folder.bos_id,
            provider=name,
            threads=threads,
            longrope_threshold=options.longrope_threshold,
            pad_id=next((i for i in (folder.pad_id, *sorted(folder.eos_ids)) if i is not None), 0),
        )

    def _choose_provider(self, config: Any, folder: ModelFolder, provider: str) -> str:
        """Apply `provider` to the engine's config; `auto` keeps what the folder declares."""
        row = ROWS[folder.provider if provider == "auto" else provider]
        if provider != "auto" and row.engine_check and not getattr(self._engine, row.engine_check)():
            raise ProviderUnavailable(
                f"`provider={row.name}`: the installed engine does not support {row.label}",
                hint="lmsupply hw shows the installed engine and its providers; `provider=cpu` works everywhere",
            )
        if row.plugin:
            self._register(row.name, row.plugin)
        if provider != "auto":
            config.clear_providers()
            if row.engine_name:
                config.append_provider(row.engine_name)
        return row.name

    def _register(self, provider: str, plugin: Plugin) -> None:
        try:
            module = import_module(plugin.module)
        except ImportError as error:
            raise ProviderUnavailable(
                f"`provider={provider}`: the plug-in is not installed", hint=f"pip install {plugin.wheel}"
            ) from error
        try:
            self._engine.register_execution_provider_library(plugin.registered_as, module.get_library_path())
        except RuntimeError as error:
            raise ProviderUnavailable(
                f"`provider={provider}`: {error}", hint="`provider=cpu` works everywhere"
            ) from error

    def encode(self, text: str) -> list[int]:
        ids = self._tokenizer.encode(text)
        self._check_ids(ids)
        return ids

    def _check_ids(self, ids: list[int]) -> None:
        size = self.shape.vocabulary
        beyond = next((token for token in ids if not 0 <= token < size), None)
        if beyond is not None:
            named = self._contents.get(beyond) or self._tokenizer.decode([beyond])
            raise ModelFilesError(
                f"the tokenizer encodes {named!r} as token {beyond}, but the model's vocabulary has {size:,}",
                hint=f"tokenizer.json and genai_config.json of {self.shape.folder} do not belong together",
            )

    def decode(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode(ids)

    def new_detokenizer(self, *, continues: bool = False) -> Detokenizer:
        return self._tokenizer.new_detokenizer(continues=continues)

    def token_text(self, token: int) -> str:
        data = self._tokenizer.token_bytes(token)
        return self._contents.get(token, "") if data is None else data.decode(errors="replace")

    def new_matcher(self, guidance: Guidance) -> Matcher:
        if not self._tokenizer.token_by_token:
            raise UsageError(
                f"a {guidance.name} is not supported with this model: its tokenizer does not decode token by token",
                hint="use another model",
            )
        return Matcher(guidance, self._guidance_vocabulary)

    @cached_property
    def _guidance_vocabulary(self) -> GuidanceVocabulary:
        names = {row["id"]: row["content"] for row in self._folder.added_tokens if row.get("special")}
        return GuidanceVocabulary(self.shape.vocabulary, self._tokenizer, names)

    def new_decoder(self, *, capacity_tokens: int, share_buffer: bool | None = None) -> Decoder:
        search = _shared(share_buffer)
        decoder: GenaiDecoder | RestartingDecoder
        if self._restarts:
            decoder = RestartingDecoder(
                lambda: self.new_generator(capacity_tokens=capacity_tokens, **search),
                capacity_tokens=capacity_tokens,
                shape=self.shape,
            )
        else:
            decoder = GenaiDecoder(self, capacity_tokens=capacity_tokens, search=search)
        self._decoders.add(decoder)
        return decoder

    def new_batch(
        self, prompts: Sequence[Sequence[int]], *, capacity_tokens: int, share_buffer: bool | None = None
    ) -> GenaiBatch:
        if why := self.batching_blocker():
            raise EngineError(f"these prompts cannot be batched: {why}", hint="use `batch_size=1`")
        batch = GenaiBatch(self, prompts, capacity_tokens=capacity_tokens, search=_shared(share_buffer))
        self._decoders.add(batch)
        return batch

    def batching_blocker(self) -> str | None:
        if self._restarts:
            return f"batches were not tried with {self.shape.provider}"
        if self._has_draft_model:
            return "the engine cannot batch prompts for a folder that names its own draft model"
        if self._window or not self._takes_padding:
            return "the engine takes only prompts of one length for this model"
        return None if self._scores_all else _LAST_ONLY  # which is padding in a shorter prompt

    def drafting_blocker(self) -> str | None:
        if self._restarts:
            return f"{self.shape.provider} cannot read several tokens at once"
        return None if self._has_draft_model or self._scores_all else _LAST_ONLY

    @cached_property
    def _takes_padding(self) -> bool:
        """Whether the graph reads prompts of several lengths at once: with a sliding window, of which the config need
        not tell, it fails (found with 0.18)."""
        generator = self.new_generator(capacity_tokens=8, batch_size=2)
        pad = self.shape.pad_id or 0
        other = (pad + 1) % self.shape.vocabulary
        try:
            generator.append_tokens(as_array([other, other, other, pad]).reshape(2, 2))
        except RuntimeError:
            return False
        return True

    @cached_property
    def _scores_all(self) -> bool:
        """Whether the graph gives the scores after each token that it reads, which only a run shows."""
        generator = self.new_generator(capacity_tokens=8)
        try:
            generator.append_tokens(as_array([1, 1]))
            return int(generator.get_output("logits").shape[1]) == 2
        except RuntimeError as error:
            raise run_error(error) from error

    def new_generator(self, *, capacity_tokens: int, **search: Any) -> Any:
        """The engine's generator; its cache is allocated and cleared for the whole capacity."""
        model = self._open()
        if self._window and search.get("past_present_share_buffer") is False:
            raise UsageError(
                "this model has a sliding window, with which the engine always shares its cache buffer",
                hint="leave out `past_present_share_buffer`",
            )
        try:
            params = self._engine.GeneratorParams(model)
            params.set_search_options(max_length=max(capacity_tokens, self._window), **_PLAIN | search)
            return self._engine.Generator(model, params)
        except (RuntimeError, MemoryError) as error:
            raise run_error(error) from error

    def close(self) -> None:
        for decoder in list(self._decoders):
            decoder.close()
        self._model = None
        self._tokenizer.close()

    def _open(self) -> Any:
        if self._model is None:
            raise EngineError("the model is closed", hint="load it again")
        return self._model

    def __enter__(self) -> GenaiModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _shared(share_buffer: bool | None) -> dict[str, Any]:
    return {} if share_buffer is None else {"past_present_share_buffer": share_buffer}


def _overlay(folder: ModelFolder, options: EngineOptions) -> str:
    """What is ours in the engine's config."""
    # its errors come as exceptions too
    session: dict[str, Any] = {"intra_op_num_threads": options.threads, "log_severity_level": 4}
    parts = [part for part in ("decoder", "draft") if part in folder.model]
    if options.shares_cores or "draft" in parts:  # threads that wait busily would keep the other model from the cores
        session["session.intra_op.allow_spinning"] = "0"
    model: dict[str, Any] = {part: {"session_options": session} for part in parts}
    if folder.more_eos_ids:
        model["eos_token_id"] = sorted(folder.more_eos_ids)  # a list adds to those of the config
    for part in parts if options.keep_full_window else ():
        if window := _window(folder.model[part]):
            slack = max(0, folder.model["context_length"] - window)
            model[part]["sliding_window"] = folder.model[part]["sliding_window"] | {"cache_slack": slack}
    return json.dumps({"model": model})


def _window(decoder: dict[str, Any]) -> int:
    """Tokens of a sliding window: the engine wants at least this capacity."""
    window = decoder.get("sliding_window")
    size = window.get("window_size") if isinstance(window, dict) else None
    return size if isinstance(size, int) and size > 0 else 0
