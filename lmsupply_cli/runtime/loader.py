"""From a ref to a loaded model."""

from __future__ import annotations

import time
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal

from lmsupply_cli import paths
from lmsupply_cli.catalogue.entry import UNKNOWN_LICENCE
from lmsupply_cli.config.layers import Settings
from lmsupply_cli.engine.base import TextModel
from lmsupply_cli.engine.folder import ModelFolder, check_provider
from lmsupply_cli.engine.guidance import Guidance
from lmsupply_cli.engine.model_options import model_options
from lmsupply_cli.engine.options import GenerationOptions
from lmsupply_cli.engine.pair import compose_pair, with_own_paths
from lmsupply_cli.errors import DoesNotFit, LmsupplyError, UsageError
from lmsupply_cli.events import Notice
from lmsupply_cli.files import listed, size_of
from lmsupply_cli.hardware.host import detect_memory, most_threads, usable_threads
from lmsupply_cli.memory.estimate import estimate_memory
from lmsupply_cli.memory.fit import MARGIN, ContextFit, fit_context
from lmsupply_cli.memory.shape import MemoryShape, read_shape
from lmsupply_cli.runtime.budget import MemoryBudget, MemoryOptions, planning_bytes
from lmsupply_cli.runtime.completion import ModelInfo
from lmsupply_cli.runtime.generator import TextGenerator
from lmsupply_cli.runtime.prompting import prepare_format, read_format, set_thinking
from lmsupply_cli.runtime.recommend import expected_variant, named_by_role, needed_bytes, recommend_model
from lmsupply_cli.runtime.speculation import DraftUse, Speculation, parse_speculative, plan_draft
from lmsupply_cli.store.judging import open_model
from lmsupply_cli.store.locate import LocatedModel, locate
from lmsupply_cli.store.scratch import TemporaryFolder


def load(
    ref: str | Path,
    *,
    provider: str = "auto",
    threads: int | None = None,
    context: int | None = None,
    cache_dir: Path | str | None = None,
    options: GenerationOptions | None = None,
    memory_limit: int | str | MemoryOptions | None = None,
    trust_model_files: bool = False,
    chat_format: str = "",
    thinks: bool = True,
    reasoning_effort: str | None = None,
    guidance: Guidance | None = None,
    speculative: str = "off",
    draft_tokens: int = 4,
) -> TextGenerator:
    """Load an installed model: an alias, `owner/repo[@revision][:variant]` or a folder.

    `context` in tokens, at most the model's own, and by default what fits the memory; `memory_limit` in bytes,
    as "8GB" or with thresholds; `chat_format` a family's or "template", by default what the model brings; `thinks` and
    `reasoning_effort` for models whose chat format asks for them; `guidance` is what answers follow that are not given
    another; `speculative` "ngram" or "draft:MODEL" guesses at most `draft_tokens` tokens ahead (a draft model in guided
    answers only where `guidance` is given), which changes the speed and not the answer; without `options` the model's own
    sampling values hold, then lmsupply's. Nothing is downloaded. Raises ModelNotFound, DoesNotFit,
    ModelNotInstalled, ModelFilesError, UntrustedModelFiles, ProviderUnavailable, UsageError.
    """
    located = LocatedModel(str(ref), ref, UNKNOWN_LICENCE) if isinstance(ref, Path) else find_model(ref, cache_dir)
    folder = open_model(located, trust=trust_model_files)
    if options is None:
        values = Settings().generation(model_options(folder))
        options = GenerationOptions(**{key: value.value for key, value in values.items()})
    limits = (
        memory_limit if isinstance(memory_limit, MemoryOptions) or memory_limit is None else MemoryOptions(memory_limit)
    )
    return load_folder(
        located,
        folder,
        provider=provider,
        threads=threads,
        context=context,
        options=options,
        limits=limits,
        chat_format=chat_format,
        thinks=thinks,
        reasoning_effort=reasoning_effort,
        guidance=guidance,
        draft=find_draft(speculative, paths.store_root(cache_dir), trust=trust_model_files),
        draft_tokens=draft_tokens,
        root=paths.store_root(cache_dir),
    )


def load_folder(
    located: LocatedModel,
    folder: ModelFolder,
    *,
    options: GenerationOptions,
    provider: str = "auto",
    threads: int | None = None,
    context: int | None = None,
    reserve_tokens: int = 0,
    limits: MemoryOptions | None = None,
    chat_format: str = "",
    thinks: bool = True,
    reasoning_effort: str | None = None,
    guidance: Guidance | None = None,
    draft: ModelFolder | Literal["ngram"] | None = None,
    draft_tokens: int = 4,
    root: Path | None = None,
) -> TextGenerator:
    """Load a folder that was opened, after the memory was planned. `root`: the store, for temporary files."""
    from lmsupply_cli.engine.genai import import_engine

    check_provider(folder, provider)
    own = folder.model["context_length"]
    check_context(folder, context)
    preparing, shape = prepare_format(folder, wanted=chat_format), read_shape(folder, provider=provider)
    import_engine()  # while that process starts
    chosen = read_format(folder, wanted=chat_format)
    markers = chosen.markers
    del preparing
    shape = shape.without_window() if shape and (draft or "draft" in folder.model) else shape
    formatter, refused = set_thinking(chosen.formatter, markers, thinks=thinks, effort=reasoning_effort)
    notices = [Notice("chat_format", chosen.note)] if chosen.note else []
    notices += [Notice("reasoning", refused)] if refused else []
    most = most_threads()
    if threads and threads > most:
        cpus = "1 CPU" if most == 1 else f"{most} CPUs"
        notices.append(Notice("threads", f"this process may use {cpus}: {most} threads run instead of {threads}"))
    runs_on = folder.provider if provider == "auto" else provider
    budget = planning_bytes(limits.limit_bytes if limits else None, runs_on)
    use = None
    if isinstance(draft, ModelFolder):
        beams, most = options.num_beams > 1, context or own
        use = plan_draft(folder, draft, guidance, provider=runs_on, context_tokens=most, beams=beams)
        budget = budget if use.how == "none" else _less(budget, draft, context or own)
    fit = _fit(shape, located, budget, context) if shape and budget is not None else None
    began = time.monotonic()
    model, speculation = _load_weights(
        folder,
        provider=provider,
        threads=min(threads, most) if threads else usable_threads(),
        visible=markers.visible if markers else (),
        draft=draft,
        draft_tokens=draft_tokens,
        use=use,
        root=root or paths.store_root(),
        switch_tokens=shape.switch_tokens if shape else 0,
    )
    info = ModelInfo(
        ref=located.ref,
        path=located.path,
        licence=located.licence,
        provider=model.shape.provider,
        threads=model.shape.threads,
        context_length=own,
        repo=located.repo,
        commit=located.commit,
        variant=located.variant,
        precision=located.precision,
        parameters=located.entry.parameters if located.entry else None,
        size_bytes=sum(max(0, size_of(file)) for file in listed(folder.path)),
    )
    return TextGenerator(
        model,
        formatter,
        info,
        options=options,
        context_tokens=fit.context_tokens if fit else context,
        reserve_tokens=reserve_tokens,
        budget=_budget(limits, shape) if limits and runs_on == "cpu" else None,
        begins_with=model.shape.bos_id if chosen.bos_token else None,  # a config may name an id for none
        load_s=time.monotonic() - began,
        markers=markers,
        fitting_tokens=_fitting(shape, budget),
        notices=notices,
        speculation=speculation,
        guidance=guidance,
        memory_shape=shape,
    )


def check_context(folder: ModelFolder, context: int | None) -> None:
    """Raises UsageError for a context that is larger than the model's."""
    own = folder.model["context_length"]
    if context is not None and context > own:
        raise UsageError(
            f"--context {context} is more than the {own} tokens that this model was made for",
            hint=f"use --context {own} or less",
        )


def _load_weights(
    folder: ModelFolder,
    *,
    provider: str,
    threads: int,
    visible: Collection[str],
    draft: ModelFolder | Literal["ngram"] | None,
    draft_tokens: int,
    use: DraftUse | None,
    root: Path,
    switch_tokens: int,
) -> tuple[TextModel, Speculation | None]:
    """The model, and what guesses for it; the engine is imported here."""
    from lmsupply_cli.engine.genai import GenaiModel

    by_folder, wanted = "draft" in folder.model, draft is not None
    how: dict[str, Any] = {"provider": provider, "threads": threads, "takes_back": wanted or by_folder}
    if use is None or not isinstance(draft, ModelFolder) or use.how == "none":
        model = GenaiModel(folder, visible=visible, switch_tokens=switch_tokens, **how)
        if not wanted and not by_folder:
            return model, None
        return model, Speculation(draft_tokens=draft_tokens, use=use, wanted=wanted, by_folder=by_folder)
    if use.how == "pair":
        place = TemporaryFolder(root)
        pair = compose_pair(folder, draft, place.path, provider=provider)
        try:
            model = GenaiModel(pair, visible=visible, switch_tokens=switch_tokens, **how)
        except LmsupplyError as error:
            error.message = with_own_paths(error.message, folder, draft, place.path)
            raise
        return model, Speculation(draft_tokens=draft_tokens, use=use, paired=place)
    model = GenaiModel(folder, visible=visible, takes_turns=True, switch_tokens=switch_tokens, **how)
    small = read_shape(draft)
    beside = GenaiModel(draft, takes_turns=True, switch_tokens=small.switch_tokens if small else 0, **how)
    return model, Speculation(draft_tokens=draft_tokens, draft=beside, use=use, by_folder=by_folder)


def find_model(ref: str, cache_dir: Path | str | None = None) -> LocatedModel:
    """An installed model by its name, `role:…` included. Raises ModelNotFound, ModelNotInstalled."""
    name = named_by_role(ref, lambda: detect_memory().available_bytes)
    return locate(name, paths.store_root(cache_dir))


def _budget(limits: MemoryOptions, shape: MemoryShape | None) -> MemoryBudget:
    return MemoryBudget(
        limits.limit_bytes, shape, before=limits.before, warning=limits.warning, critical=limits.critical
    )


def find_draft(speculative: str, root: Path, *, trust: bool = False) -> ModelFolder | Literal["ngram"] | None:
    """What `speculative` asks for: the folder of the smaller model, "ngram", or nothing. Raises UsageError,
    ModelNotFound, ModelNotInstalled."""
    ref = parse_speculative(speculative)
    if ref is None:
        return None
    return open_model(locate(ref, root), trust=trust) if ref else "ngram"


def _less(budget: int | None, draft: ModelFolder, context: int) -> int | None:
    """What the smaller model leaves of the memory."""
    shape = read_shape(draft)
    if budget is None or shape is None:
        return budget
    needed = estimate_memory(shape.without_window(), min(context, shape.context_length, 8192))
    return budget - (needed.peak_bytes - needed.process_bytes)


def _fitting(shape: MemoryShape | None, budget: int | None) -> int | None:
    return fit_context(shape, budget).context_tokens if shape and budget is not None else None


def _fit(shape: MemoryShape, located: LocatedModel, budget: int, context: int | None) -> ContextFit:
    """Where the model does not fit, name a smaller one that does."""
    try:
        return fit_context(shape, budget, wanted_tokens=context)
    except DoesNotFit as error:
        usable = int(budget * MARGIN)
        entry = recommend_model(usable).entry
        expected = expected_variant(entry)
        fits = expected is not None and needed_bytes(entry, expected.chosen.size_bytes) <= usable
        smaller = located.entry is None or entry.parameters < located.entry.parameters
        raise DoesNotFit(
            error.message, hint=f"{error.hint}; {entry.ref} would fit" if fits and smaller else error.hint
        ) from error
