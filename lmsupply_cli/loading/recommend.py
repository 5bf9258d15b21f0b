"""What suits this machine: the variant to wish for, the expected one of a catalogue entry, whether it fits, what to pull."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lmsupply_cli.catalogue.entry import CatalogueEntry
from lmsupply_cli.catalogue.lookup import entries_of_role
from lmsupply_cli.catalogue.roles import role_name
from lmsupply_cli.errors import LmsupplyError
from lmsupply_cli.hardware.choice import Choice, ProviderState, choose_provider, provider_states
from lmsupply_cli.hardware.detect import detect_hardware
from lmsupply_cli.hardware.profile import HardwareProfile
from lmsupply_cli.hardware.wheels import EngineWheels, detect_engine_wheels
from lmsupply_cli.hub.resolve import Resolution, VariantWish, resolve
from lmsupply_cli.hub.tree import RepoFile, RepoTree
from lmsupply_cli.hub.variant import Variant, find_variants
from lmsupply_cli.memory.estimate import PACKED, PROCESS_BYTES
from lmsupply_cli.memory.fit import MARGIN
from lmsupply_cli.providers import CPU
from lmsupply_cli.units import format_bytes

CONTEXT_TOKENS = 4096  # the least context that a useful chat needs
_ON_CPU = VariantWish()


@dataclass(frozen=True, slots=True)
class Recommendation:
    entry: CatalogueEntry
    reason: str


@dataclass(frozen=True, slots=True)
class MachineChoice:
    """What this machine is, the provider and precision that suit it, and what speaks for and against each provider."""

    profile: HardwareProfile
    wheels: EngineWheels
    choice: Choice
    states: tuple[ProviderState, ...]


def machine_choice() -> MachineChoice:
    profile, wheels = detect_hardware(), detect_engine_wheels()
    return MachineChoice(profile, wheels, choose_provider(profile, wheels), tuple(provider_states(profile, wheels)))


def machine_wish(
    provider: str = "auto",
    precision: str = "auto",
    variant: str | None = None,
    *,
    exact: bool = False,
    machine: Callable[[], MachineChoice] = machine_choice,
) -> VariantWish:
    """The wish with "auto" replaced: by the provider of this machine, and the precision that suits it. `exact` says that
    no other than a given precision will do."""
    exact = exact and precision != "auto"
    if provider != "auto":
        return VariantWish(provider, precision, variant, exact, on_cpu=provider == CPU.name)
    choice = machine().choice
    return VariantWish(choice.provider, choice.precision if precision == "auto" else precision, variant, exact)


def catalogue_variants(entry: CatalogueEntry) -> list[Variant]:
    """The entry's variants as the catalogue lists them; their one file stands for all."""
    files = {f"{folder}/genai_config.json".lstrip("/"): size for folder, size in entry.variants.items()}
    tree = RepoTree(entry.repo, "", {path: RepoFile(path, size) for path, size in files.items()})
    return find_variants(tree) if files else []


def expected_variant(entry: CatalogueEntry, wish: VariantWish = _ON_CPU) -> Resolution | None:
    """What `pull` would choose by the catalogue, without asking the Hub; None if it does not say."""
    variants = catalogue_variants(entry)
    try:
        return resolve(variants, wish, folder=entry.folder) if variants else None
    except LmsupplyError:
        return None


def needed_bytes(entry: CatalogueEntry, size_bytes: int) -> int:
    """A rough need on the CPU: weights as they are held, a cache for 4,096 tokens in fp32, and the process."""
    cache = entry.cache_bytes(min(CONTEXT_TOKENS, entry.context_length), bytes_each=4) or 0
    return int(PACKED * size_bytes) + cache + PROCESS_BYTES


def roughly_fits(entry: CatalogueEntry, size_bytes: int | None, available_bytes: int) -> bool | None:
    """None where the size is not known."""
    return needed_bytes(entry, size_bytes) <= available_bytes if size_bytes else None


def largest_context(entry: CatalogueEntry, size_bytes: int | None, available_bytes: int) -> int | None:
    """Tokens of cache that fit beside the weights, at most the model's own; None where a figure is unknown, 0 where none."""
    token = entry.cache_bytes(1, bytes_each=4)
    if not size_bytes or not token:
        return None
    room = int(available_bytes * MARGIN) - int(PACKED * size_bytes) - PROCESS_BYTES
    return max(0, min(entry.context_length, room // token))


def named_by_role(name: str, available_bytes: Callable[[], int]) -> str:
    """`role:…` is the model of that role for this machine; other names stand for themselves. Raises ModelNotFound."""
    role = role_name(name)
    return recommend_model(available_bytes(), role).entry.ref if role else name


def recommend_model(available_bytes: int, role: str = "default") -> Recommendation:
    """The first model of the role that fits the memory, with a margin; else the last, which is the smallest. Raises
    ModelNotFound for an unknown role."""
    entries = entries_of_role(role)
    for entry in entries:
        resolution = expected_variant(entry)
        size = resolution.chosen.size_bytes if resolution else 0
        need = needed_bytes(entry, size)
        if size and need <= available_bytes * MARGIN:
            reason = f"it needs about {format_bytes(need)}; {format_bytes(available_bytes)} available"
            return Recommendation(entry, reason)
    return Recommendation(entries[-1], f"the smallest; only {format_bytes(available_bytes)} available")
