"""From what the user asked for to a loaded model: choose, open, options, plan, load. Shared by run, chat and classify."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from shlex import quote

from lmsupply_cli.catalogue.entry import GUIDE_REF
from lmsupply_cli.chat.overflow import Policy
from lmsupply_cli.cli.consent import allowed_by, check_allowed, ensure_accepted, named_for
from lmsupply_cli.cli.context import Context, notices_object
from lmsupply_cli.cli.idle import check_flags, idle_sampling, idle_thinking
from lmsupply_cli.cli.provider import load_provider
from lmsupply_cli.cli.warm import warm_generator
from lmsupply_cli.config.layers import Settings, Source, Value
from lmsupply_cli.config.table import SETTINGS
from lmsupply_cli.engine.folder import ModelFolder
from lmsupply_cli.engine.guidance import Guidance
from lmsupply_cli.engine.matcher import check_guidance
from lmsupply_cli.engine.model_options import model_options
from lmsupply_cli.engine.options import GenerationOptions, make_options
from lmsupply_cli.errors import ModelNotFound, ModelNotInstalled, NotImported, UsageError
from lmsupply_cli.events import Notice
from lmsupply_cli.files import folder_bytes
from lmsupply_cli.generation.answers import ChatGenerator
from lmsupply_cli.generation.generator import TextGenerator
from lmsupply_cli.generation.load import load_plan
from lmsupply_cli.loading.options import LoadOptions
from lmsupply_cli.loading.plan import LoadPlan, plan_folder
from lmsupply_cli.render.fields import print_fields
from lmsupply_cli.store.judging import open_model
from lmsupply_cli.store.locate import LocatedModel, default_installed, guide, locate, located
from lmsupply_cli.store.manifest import EXACT, mark_used

_SHOW_BYTES = 50_000_000  # a smaller model is loaded before the line could be read


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """The model as the user named it (None if they did not), and what may be done to use it. `dry_run`: nothing is
    downloaded or imported; `no_server`: that of a running server is not used."""

    name: str | None = None
    pull: bool = False
    accepted: bool = False
    trust: bool = False
    dry_run: bool = False
    no_server: bool = False


@dataclass(frozen=True, slots=True)
class Prepared:
    """A model that is chosen and opened, not loaded. `values`: the generation options with their sources."""

    model: LocatedModel
    folder: ModelFolder
    values: dict[str, Value]
    options: GenerationOptions
    guidance: Guidance | None = None

    def plan(self, settings: Settings, *, reserve_tokens: int = 0) -> LoadPlan:
        """How it is loaded. The notices of the plan say what was decided on the way. Raises DoesNotFit, UsageError."""
        provider, said = load_provider(settings, self.model, self.folder)
        wanted = replace(
            load_options(settings, trust=self.folder.trusted),
            provider=provider,
            options=self.options,
            guidance=self.guidance,
            reserve_tokens=reserve_tokens,
        )
        plan = plan_folder(self.model, self.folder, wanted)
        if plan.draft:
            check_allowed(plan.draft.model.ref, plan.draft.model.license, settings)
        return replace(plan, notices=(*said, *idle_thinking(settings, plan.format.format), *plan.notices))


def prepare(
    ctx: Context,
    request: ModelRequest,
    *,
    guidance: Guidance | None = None,
    weights: bool = True,
    unused: Collection[str] = (),
    fill_context: bool = False,
) -> Prepared:
    """Choose a model and open its folder. `weights`: whether they must be there; `unused`, `fill_context`: as in
    `read_options`. Raises the errors of what it uses."""
    check_flags(ctx.settings)
    if guidance:
        check_guidance(guidance)
    model = choose_model(ctx, request)
    folder = open_model(model, trust=request.trust, weights=weights)
    values, options = read_options(ctx.settings, folder, guidance, unused=unused, fill_context=fill_context)
    for notice in idle_sampling(values, options):
        ctx.notice(notice)
    return Prepared(model, folder, values, options, guidance)


def choose_model(ctx: Context, request: ModelRequest) -> LocatedModel:
    """The model that was named; else the setting default_model; else the only installed model; else the one used last;
    else the guide.

    A named model that is missing is pulled as `auto_pull` says; without a name nothing is ever downloaded. Raises
    ModelNotFound, ModelNotInstalled, LicenseNotAccepted, HubError, UsageError.
    """
    if request.name:
        return _named(ctx, request.name, request, pull=True)
    if name := ctx.settings.get("default_model"):
        try:
            return _named(ctx, name, request, pull=request.pull)
        except (ModelNotFound, ModelNotInstalled) as error:
            from_env = ctx.settings.value("default_model").source == "env"
            way = "correct or unset `default_model`" if from_env else "lmsupply use MODEL sets another default"
            raise type(error)(
                f"`default_model`: {error.message}", hint="; ".join(filter(None, (error.hint, way)))
            ) from error
    if request.pull:
        ctx.notice(Notice("pull", "--pull has no effect: no model is named"))
    if found := default_installed(ctx.root, allowed_by(ctx.settings)):
        ctx.notice(Notice("model_chosen", f"using {found.model.ref}, {found.reason}"))
        return _permitted(ctx, found.model, request)
    model = _permitted(ctx, guide(), request)
    way = "get one for this machine: lmsupply pull role:default"
    ctx.notice(Notice("guide", f"no model is installed, so the built-in {GUIDE_REF} answers; {way}"))
    return model


def required_precision(settings: Settings) -> str | None:
    """The precision that a flag requires; in the settings it is a preference for what is pulled."""
    wanted = settings.value("precision")
    return wanted.value if wanted.source == "flag" and wanted.value != "auto" else None


def _named(ctx: Context, name: str, request: ModelRequest, *, pull: bool) -> LocatedModel:
    """`pull`: whether it may be pulled if it is missing."""
    name = named_for(name, ctx.settings)
    try:
        model = locate(name, ctx.root, precision=required_precision(ctx.settings))
    except NotImported as missing:
        if request.dry_run:
            way = f"lmsupply add {quote(name)} --dry-run shows what importing it takes"
            raise NotImported(missing.message, hint=way) from None
        model = _imported(ctx, name)
    except ModelNotInstalled as missing:
        if not pull:
            raise
        return _pulled(ctx, name, request, missing)
    return _permitted(ctx, model, request)


def _imported(ctx: Context, name: str) -> LocatedModel:
    """A GGUF file or a folder of safetensors is imported when it is first used. Raises UsageError where it would not get
    the precision that is required, and what importing raises."""
    from lmsupply_cli.cli.importing import import_planned, import_wish, plan_of

    precision = required_precision(ctx.settings)
    planned = plan_of(ctx, name, import_wish(ctx.settings, precision))
    if precision and precision != planned.precision:
        why = f": {planned.plan.reason}" if planned.form.precision == EXACT else ""
        raise UsageError(
            f"{name} cannot be imported in {precision}{why}",
            hint=f"leave out `precision`; it will be stored in {planned.precision}",
        )
    return located(import_planned(ctx, planned), ctx.root)


def _permitted(ctx: Context, model: LocatedModel, request: ModelRequest) -> LocatedModel:
    """The model, if it has the required precision, the settings allow its license and, where lmsupply pulled it, the user
    accepted it. Raises UsageError, LicenseNotAccepted."""
    precision = required_precision(ctx.settings)
    if precision and precision != model.precision:
        raise UsageError(
            f"`precision={precision}` chooses what is downloaded, but {model.ref} is on this machine already",
            hint="leave out `precision`, or name a model to download",
        )
    check_allowed(model.ref, model.license, ctx.settings)
    if model.was_pulled:
        ensure_accepted(
            model.ref,
            model.repo,
            model.commit,
            model.license,
            ctx.terminal,
            accepted=request.accepted,
            question="Accept the license?",
        )
    return model


def _pulled(ctx: Context, name: str, request: ModelRequest, missing: ModelNotInstalled) -> LocatedModel:
    """Pull it now: `always`, or `ask` in a terminal. With a terminal on stderr only, the plan is shown and carried out."""
    if request.dry_run:
        way = f"lmsupply pull {quote(name)} --dry-run shows what would be downloaded"
        raise ModelNotInstalled(missing.message, hint=way) from None
    terminal = ctx.terminal
    wish = "always" if request.pull else ctx.settings.get("auto_pull")
    if wish == "never" or (wish == "ask" and not terminal.stderr_tty):
        raise missing
    from lmsupply_cli.cli.fetching import ask_to_pull, plan_for, pull_plan, say_plan

    plan = plan_for(name, ctx.settings, ctx.root, terminal)
    say_plan(plan, terminal)
    accepted = request.accepted
    if wish == "ask" and terminal.stdin_tty:
        if not ask_to_pull(plan, terminal):
            raise ModelNotInstalled(f"{plan.ref} was not pulled")
        accepted = True
    return located(pull_plan(plan, ctx.root, terminal, accepted=accepted), ctx.root)


def load_options(settings: Settings, *, trust: bool = False) -> LoadOptions:
    """The load options from the settings."""
    return LoadOptions(
        provider=settings.get("provider"),
        threads=settings.get("threads"),
        context=settings.get("context"),
        cache_dir=settings.get("cache_dir"),
        memory_limit=settings.get("memory_limit"),
        trust_model_files=trust,
        chat_format=settings.get("chat_format") or "",
        enable_thinking=settings.get("think") != "off",
        reasoning_effort=settings.get("reasoning_effort"),
        speculative=settings.get("speculative"),
        draft_tokens=settings.get("draft_tokens"),
    )


def read_options(
    settings: Settings,
    folder: ModelFolder,
    guidance: Guidance | None = None,
    *,
    unused: Collection[str] = (),
    fill_context: bool = False,
) -> tuple[dict[str, Value], GenerationOptions]:
    """The generation options with their sources, and as they are used. `unused`: those that always have
    lmsupply's default; `fill_context`: an answer may be as long as the context allows, unless `max_tokens` is set. Not with beam search,
    whose cache is allocated for the longest answer. Raises UsageError."""
    own = model_options(folder)
    values = settings.generation(own) | {key: Value(SETTINGS[key].default, "default") for key in unused}
    if fill_context and values["max_tokens"].source == "default" and values["num_beams"].value == 1:
        values["max_tokens"] = Value(folder.model["context_length"], "default")
    options = make_options({key: value.value for key, value in values.items()}, own)
    if options.repetition_penalty is None:
        penalty = options.penalty(guided=guidance is not None)
        source: Source = "model" if penalty == own.get("repetition_penalty") else "default"
        values["repetition_penalty"] = Value(penalty, source)
    return values, options


def overflow_policy(settings: Settings, default: Policy = "error") -> Policy:
    policy: Policy = settings.get("on_overflow") or default
    return policy


def load_model(ctx: Context, plan: LoadPlan) -> TextGenerator:
    """Load, with a line on the terminal meanwhile, and say the model's notices."""
    status = ctx.terminal.status()
    if folder_bytes(plan.folder.path) > _SHOW_BYTES:
        status.show(f"loading {plan.model.ref} …")
    try:
        generator = load_plan(plan)
    finally:
        status.clear()
    if plan.model.key:
        mark_used(ctx.root, plan.model.key)
    for notice in generator.notices:
        ctx.notice(notice)
    return generator


def open_generator(
    ctx: Context, prepared: Prepared, request: ModelRequest, *, reserve_tokens: int = 0
) -> ChatGenerator:
    """The model that a running server has in memory, else it is loaded here, with `reserve_tokens` of cache from the
    start."""
    if not request.no_server and (warm := warm_generator(ctx, prepared)):
        if prepared.model.key:
            mark_used(ctx.root, prepared.model.key)
        return warm
    return load_model(ctx, prepared.plan(ctx.settings, reserve_tokens=reserve_tokens))


def say_load_plan(ctx: Context, plan: LoadPlan, *, as_json: bool = False) -> None:
    """Print the plan on stdout."""
    for notice in plan.notices:
        ctx.notice(notice)
    if as_json:
        ctx.terminal.json({"plan": plan.as_dict(), "notices": notices_object(ctx.notices)})
        return
    print_fields(ctx.terminal, plan.rows())
