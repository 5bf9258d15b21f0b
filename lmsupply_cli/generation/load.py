"""From a ref to a loaded model that answers."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

from lmsupply_cli.errors import UsageError
from lmsupply_cli.events import Notice
from lmsupply_cli.files import folder_bytes
from lmsupply_cli.generation.answers import check_type
from lmsupply_cli.generation.completion import ModelInfo
from lmsupply_cli.generation.generator import GeneratorLimits, TextGenerator
from lmsupply_cli.generation.speculation import Speculation
from lmsupply_cli.loading.options import LoadKeywords, LoadOptions
from lmsupply_cli.loading.plan import LoadPlan, load_weights, plan_first_load
from lmsupply_cli.memory.budget import MemoryBudget
from lmsupply_cli.store.locate import LocatedModel


def load(ref: str | Path, how: LoadOptions | None = None, /, **keywords: Unpack[LoadKeywords]) -> TextGenerator:
    """Load an installed model: an alias, `owner/repo[@revision][:variant]` or a folder. Pass a LoadOptions, or its
    fields as keywords. Nothing is downloaded; a GGUF file or a folder of safetensors is imported on first use.

    >>> from lmsupply import load
    >>> with load("guide", context=512) as model:
    ...     print(model.generate("How do I list my models?", temperature=0))

    Raises ModelNotFound, DoesNotFit, ModelNotInstalled, LicenseNotAccepted, ModelFilesError, UntrustedModelFiles,
    ProviderUnavailable, UsageError.
    """
    if how is not None and keywords:
        raise UsageError(f"LoadOptions and keyword arguments can't be combined: {', '.join(keywords)}")
    if how is not None:
        check_type(how, LoadOptions, "the second argument", "a LoadOptions")
    return load_plan(plan_first_load(ref, how or LoadOptions.of(keywords)))


def load_plan(plan: LoadPlan) -> TextGenerator:
    """Carry out a plan. Raises ModelFilesError, ProviderUnavailable, EngineUnavailable."""
    loaded, options, model = load_weights(plan), plan.options, plan.model
    speculation = None
    if options.speculative != "off":
        speculation = Speculation(draft_tokens=options.draft_tokens, draft=loaded.draft)
    shape = loaded.model.shape
    info = model_info(model, provider=shape.provider, threads=shape.threads, context_length=plan.context_length)
    generator = TextGenerator(
        loaded.model,
        plan.format.format,
        info,
        options=plan.generation,
        guidance=options.guidance,
        limits=GeneratorLimits(
            context_tokens=plan.context_tokens,
            fitting_tokens=plan.fitting_tokens,
            reserve_tokens=options.reserve_tokens,
            budget=_budget(plan),
            memory_shape=plan.shape,
        ),
        speculation=speculation,
    )
    note = loaded.model.tokenizer_note
    generator.load_s = loaded.load_s
    generator.notices = (*plan.notices, *([Notice("tokenizer", note)] if note else []))
    return generator


def model_info(model: LocatedModel, *, provider: str, threads: int, context_length: int) -> ModelInfo:
    """Of a model that runs so."""
    return ModelInfo(
        ref=model.ref,
        path=model.path,
        license=model.license,
        provider=provider,
        threads=threads,
        context_length=context_length,
        repo=model.repo,
        commit=model.commit,
        variant=model.variant,
        precision=model.precision,
        parameters=model.entry.parameters if model.entry else None,
        size_bytes=folder_bytes(model.path, below=False),
    )


def _budget(plan: LoadPlan) -> MemoryBudget | None:
    limits = plan.options.limits
    if limits is None or plan.runs_on != "cpu":
        return None
    return MemoryBudget(
        limits.limit_bytes, plan.shape, before=limits.before, warning=limits.warning, critical=limits.critical
    )
