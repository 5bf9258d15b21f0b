"""What loading a model comes to, decided before its weights are read: a plan that can be printed, and its execution."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lmsupply_cli import paths
from lmsupply_cli.catalogue.acceptance import license_page, needs_acceptance, refusal
from lmsupply_cli.config.layers import Settings
from lmsupply_cli.engine.base import TextModel
from lmsupply_cli.engine.folder import ModelFolder, check_provider
from lmsupply_cli.engine.model_options import model_options
from lmsupply_cli.engine.options import GenerationOptions, check_bias, make_options
from lmsupply_cli.engine.speculative import MOST_DRAFT_CONTEXT
from lmsupply_cli.errors import (
    DoesNotFit,
    LicenseNotAccepted,
    ModelNotFound,
    ModelNotInstalled,
    NotImported,
    UsageError,
)
from lmsupply_cli.events import Notice
from lmsupply_cli.hardware.host import detect_cpu, grant_threads
from lmsupply_cli.loading.formats import FolderFormat, prepare_format, read_format
from lmsupply_cli.loading.options import LoadOptions
from lmsupply_cli.memory.budget import planning_bytes
from lmsupply_cli.memory.estimate import estimate_memory
from lmsupply_cli.memory.fit import ContextFit, fit_context
from lmsupply_cli.memory.rough import MARGIN, needed_bytes
from lmsupply_cli.memory.shape import MemoryShape, read_shape
from lmsupply_cli.store.judging import open_model
from lmsupply_cli.store.locate import LocatedModel, at_path, locate
from lmsupply_cli.units import count, format_bytes


@dataclass(frozen=True)
class DraftPlan:
    """The draft model of speculative decoding."""

    model: LocatedModel
    folder: ModelFolder
    shape: MemoryShape | None


@dataclass(frozen=True)
class LoadPlan:
    """`options`: those that were asked for; `generation`: the defaults of calls; `runs_on`: the execution provider;
    `shape`, `fit`: what the memory depends on and the context that fits it, None where the folder does not tell;
    `fitting_tokens`: the largest context that fits; `notices`: what the user should know.

    >>> from lmsupply import LoadOptions, plan_load
    >>> for name, text in plan_load("guide", LoadOptions(context=512)).rows():
    ...     print(name, text)
    """

    model: LocatedModel
    folder: ModelFolder
    options: LoadOptions
    generation: GenerationOptions
    format: FolderFormat
    runs_on: str
    threads: int
    draft: DraftPlan | None = None
    shape: MemoryShape | None = None
    fit: ContextFit | None = None
    fitting_tokens: int | None = None
    notices: tuple[Notice, ...] = ()

    @property
    def context_length(self) -> int:
        """The model's own context length, in tokens."""
        length: int = self.folder.model["context_length"]
        return length

    @property
    def context_tokens(self) -> int:
        """The context length that it is loaded with, in tokens."""
        return self.fit.context_tokens if self.fit else self.options.context or self.context_length

    def rows(self) -> list[tuple[str, str]]:
        """The plan as pairs of name and text."""
        context = f"{self.context_tokens:,} of {self.context_length:,} tokens"
        if self.fit and self.fit.limited:
            context += ": the most that fits in memory"
        rows = [
            ("model", self.model.ref),
            ("folder", str(self.folder.path)),
            ("provider", self.runs_on + (f", {count(self.threads, 'thread')}" if self.runs_on == "cpu" else "")),
            ("chat format", self.format.format.formatter.name),
            ("context", context),
        ]
        if self.fit:
            needed, usable = self.fit.estimate, int(self.fit.budget_bytes * MARGIN)
            rows.append(("memory", f"at most {format_bytes(needed.peak_bytes)}, {format_bytes(usable)} available"))
            rows.append(
                (
                    "of which",
                    f"weights {format_bytes(needed.weights_bytes)}, KV cache {format_bytes(needed.cache_bytes)}, "
                    f"tokenizer {format_bytes(needed.tokenizer_bytes)}",
                )
            )
        if self.options.speculative != "off":
            source = f"draft model {self.draft.model.ref}" if self.draft else "text"
            rows.append(("draft tokens", f"at most {self.options.draft_tokens}, from the {source}"))
        return rows

    def as_dict(self) -> dict[str, Any]:
        """The plan as JSON values; `peak_bytes` is the need, `usable_bytes` what is available."""
        fit = self.fit
        return {
            "model": self.model.ref,
            "folder": str(self.folder.path),
            "provider": self.runs_on,
            "threads": self.threads,
            "chat_format": self.format.format.formatter.name,
            "context_tokens": self.context_tokens,
            "context_length": self.context_length,
            "peak_bytes": fit.estimate.peak_bytes if fit else None,
            "usable_bytes": int(fit.budget_bytes * MARGIN) if fit else None,
            "speculative": self.options.speculative,
            "draft_model": self.draft.model.ref if self.draft else None,
        }


@dataclass
class LoadedWeights:
    """`draft`: the draft model, None for none; `load_s`: seconds that it took."""

    model: TextModel
    draft: TextModel | None
    load_s: float


def plan_load(ref: str | Path | LocatedModel, options: LoadOptions | None = None) -> LoadPlan:
    """How an installed model would be loaded: an alias, `owner/repo[@revision][:variant]` or a folder. Nothing is
    downloaded or imported, and no weights are read.

    Raises ModelNotFound, DoesNotFit, ModelNotInstalled, NotImported, LicenseNotAccepted, ModelFilesError,
    UntrustedModelFiles, ProviderUnavailable, UsageError.
    """
    if not isinstance(ref, (str, Path, LocatedModel)):
        raise UsageError(f"ref must be a name or a path, not {type(ref).__name__}")
    options = options or LoadOptions()
    model = _located(ref, options)
    folder = open_model(model, trust=options.trust_model_files)
    return plan_folder(model, folder, options)


def plan_first_load(ref: str | Path | LocatedModel, options: LoadOptions) -> LoadPlan:
    """As `plan_load`, but a GGUF file or a folder of safetensors is imported if it is not yet. Raises FileError too."""
    try:
        return plan_load(ref, options)
    except NotImported as missing:
        from lmsupply_cli.loading.importing import import_model

        return plan_load(import_model(missing.source, cache_dir=options.cache_dir), options)


def plan_folder(model: LocatedModel, folder: ModelFolder, options: LoadOptions) -> LoadPlan:
    """As `plan_load`, for a folder that is open."""
    from lmsupply_cli.engine.genai import RESTARTING, import_engine

    check_provider(folder, options.provider)
    check_context(folder, options.context)
    preparing = prepare_format(folder, wanted=options.chat_format)
    shape = read_shape(folder, provider=options.provider)
    import_engine()  # while that process starts
    chosen = read_format(
        folder,
        wanted=options.chat_format,
        enable_thinking=options.enable_thinking,
        effort=options.reasoning_effort,
    )
    del preparing
    rewinds = options.speculative != "off"
    shape = shape.without_window() if shape and rewinds else shape
    generation = options.options or default_options(folder)
    check_bias(generation, folder.model["vocab_size"])
    threads, note = grant_threads(options.threads, detect_cpu())
    runs_on = folder.provider if options.provider == "auto" else options.provider
    plan = LoadPlan(
        model,
        folder,
        options,
        generation,
        chosen,
        runs_on,
        threads,
        draft=None if generation.num_beams > 1 or runs_on in RESTARTING else _plan_draft(folder, options),
        shape=shape if shape is None or options.guidance is None else replace(shape, guided=True),
        notices=(*chosen.notices, *([Notice("threads", note)] if note else [])),
    )
    return _fitted(plan)


def load_weights(plan: LoadPlan) -> LoadedWeights:
    """Carry out the plan. Raises ModelFilesError, ProviderUnavailable, EngineUnavailable."""
    from lmsupply_cli.engine.genai import EngineOptions, GenaiModel

    options, began = plan.options, time.monotonic()
    engine = EngineOptions(
        provider=options.provider,
        threads=plan.threads,
        shares_cores=plan.draft is not None,
        keep_full_window=options.speculative != "off",
    )
    own = replace(engine, longrope_threshold=plan.shape.longrope_threshold if plan.shape else 0)
    model = GenaiModel(plan.folder, own, visible=plan.format.visible)
    draft = None
    if plan.draft:
        small = plan.draft.shape
        try:
            draft = GenaiModel(
                plan.draft.folder, replace(engine, longrope_threshold=small.longrope_threshold if small else 0)
            )
        except BaseException:
            model.close()
            raise
    return LoadedWeights(model, draft, time.monotonic() - began)


def default_options(folder: ModelFolder) -> GenerationOptions:
    """Without any settings: the model's own values, then ours."""
    own = model_options(folder)
    return make_options({key: value.value for key, value in Settings().generation(own).items()}, own)


def check_context(folder: ModelFolder, context: int | None) -> None:
    """Raises UsageError for a context that is larger than the model's."""
    own = folder.model["context_length"]
    if context is not None and context > own:
        raise UsageError(
            f"`context={context}` is more than this model's maximum of {own:,} tokens",
            hint=f"use `context={own}` or less",
        )


def find_model(ref: str, cache_dir: Path | str | None = None) -> LocatedModel:
    """An installed model by its name, `role:…` included. Raises ModelNotFound, ModelNotInstalled."""
    from lmsupply_cli.loading.recommend import named_by_role

    name = named_by_role(ref)
    return locate(name, paths.store_root(cache_dir))


def _located(ref: str | Path | LocatedModel, options: LoadOptions) -> LocatedModel:
    if isinstance(ref, Path):
        model = at_path(ref, paths.store_root(options.cache_dir))
    else:
        model = ref if isinstance(ref, LocatedModel) else find_model(ref, options.cache_dir)
    check_accepted(model)
    return model


def check_accepted(model: LocatedModel) -> None:
    """Raises LicenseNotAccepted for a model that lmsupply pulled, if its license must be accepted and is not (any
    more)."""
    if model.was_pulled and needs_acceptance(model.repo, model.license):
        page = license_page(model.repo, model.license)
        raise LicenseNotAccepted(
            refusal(model.ref, model.license),
            hint=f"Read it at {page}, then accept it: lmsupply pull {model.ref} --accept-license",
        )


def _plan_draft(target: ModelFolder, options: LoadOptions) -> DraftPlan | None:
    if not options.draft_ref:
        return None
    try:
        located = find_model(options.draft_ref, options.cache_dir)
    except (ModelNotFound, ModelNotInstalled) as error:
        raise type(error)(f"`speculative={options.speculative}`: {error.message}", hint=error.hint) from error
    check_accepted(located)
    folder = open_model(located, trust=options.trust_model_files)
    if _vocabulary(target) != _vocabulary(folder):
        raise UsageError(
            f"`speculative={options.speculative}`: {located.ref} cannot be a draft model: the vocabularies differ",
            hint="use a smaller model of the same family, or `speculative=ngram`",
        )
    return DraftPlan(located, folder, read_shape(folder))


def _vocabulary(folder: ModelFolder) -> Any:
    model: Mapping[str, Any] = folder.read_json("tokenizer.json").get("model", {})
    return model.get("vocab"), {(row["id"], row["content"]) for row in folder.added_tokens}


def _fitted(plan: LoadPlan) -> LoadPlan:
    """With the context that fits the memory. Where the model does not fit, the error names a smaller one that does."""
    limits, shape = plan.options.limits, plan.shape
    budget = planning_bytes(limits.limit_bytes if limits else None, plan.runs_on)
    if shape is None or budget is None:
        return plan
    by_user = limits is not None and budget == limits.limit_bytes
    if plan.draft and plan.draft.shape:
        small = plan.draft.shape
        most = min(plan.options.context or plan.context_length, small.context_length, MOST_DRAFT_CONTEXT)
        needed = estimate_memory(small.without_window(), most)
        budget -= needed.peak_bytes - needed.process_bytes
    try:
        fit = fit_context(shape, budget, wanted_tokens=plan.options.context, limited_by_user=by_user)
    except DoesNotFit as error:
        from lmsupply_cli.loading.recommend import expected_variant, recommend_model

        entry = recommend_model(budget).entry
        expected = expected_variant(entry)
        fits = expected is not None and needed_bytes(entry, expected.chosen.size_bytes) <= budget * MARGIN
        smaller = plan.model.entry is None or entry.parameters < plan.model.entry.parameters
        hint = f"{error.hint}; {entry.ref} would fit" if fits and smaller else error.hint
        raise DoesNotFit(error.message, hint=hint) from error
    largest = fit if plan.options.context is None else fit_context(shape, budget)
    return replace(plan, fit=fit, fitting_tokens=largest.context_tokens)
