"""What suits this machine: the variant to wish for, the expected one of a catalogue entry, and what to pull."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from lmsupply_cli.catalogue.entry import CatalogueEntry, License
from lmsupply_cli.catalogue.lookup import entries_of_role
from lmsupply_cli.catalogue.roles import role_name
from lmsupply_cli.config.values import check_value
from lmsupply_cli.errors import LicenseNotAccepted, LmsupplyError
from lmsupply_cli.hardware.host import detect_memory
from lmsupply_cli.hub.resolve import Resolution, VariantWish, resolve
from lmsupply_cli.hub.tree import RepoFile
from lmsupply_cli.hub.variant import Variant, named_variant
from lmsupply_cli.memory.rough import MARGIN, needed_bytes
from lmsupply_cli.providers import CPU
from lmsupply_cli.units import format_bytes

if TYPE_CHECKING:
    from lmsupply_cli.hardware.choice import Choice, ProviderState
    from lmsupply_cli.hardware.profile import HardwareProfile
    from lmsupply_cli.hardware.wheels import EngineWheels

Allowed = Callable[[License], bool]
_ON_CPU = VariantWish()


def any_license(_: License) -> bool:
    return True


class Recommendation(NamedTuple):
    entry: CatalogueEntry
    reason: str


class MachineChoice(NamedTuple):
    """What this machine is, the provider and precision that suit it, and what speaks for and against each provider."""

    profile: HardwareProfile
    wheels: EngineWheels
    choice: Choice
    states: tuple[ProviderState, ...]


def machine_choice() -> MachineChoice:
    from lmsupply_cli.hardware.choice import choose_provider, provider_states
    from lmsupply_cli.hardware.detect import detect_hardware
    from lmsupply_cli.hardware.wheels import detect_engine_wheels

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
    no other than a given precision will do. Raises UsageError."""
    check_value("provider", provider)
    check_value("precision", precision)
    exact = exact and precision != "auto"
    if provider != "auto":
        return VariantWish(provider, precision, variant, exact, on_cpu=provider == CPU.name)
    choice, by_machine = machine().choice, precision == "auto"
    chosen = choice.precision if by_machine else precision
    return VariantWish(choice.provider, chosen, variant, exact, by_machine=by_machine)


def catalogue_variants(entry: CatalogueEntry) -> list[Variant]:
    """The entry's variants as the catalogue lists them; their one file stands for all."""
    sizes = sorted(entry.variants.items())
    return [named_variant(entry.repo, folder, [RepoFile(folder, size)]) for folder, size in sizes]


def expected_variant(entry: CatalogueEntry, wish: VariantWish = _ON_CPU) -> Resolution | None:
    """What `pull` would choose by the catalogue, without asking the Hub; None if it does not say."""
    variants = catalogue_variants(entry)
    try:
        return resolve(variants, wish, folder=entry.folder) if variants else None
    except LmsupplyError:
        return None


def named_by_role(
    name: str,
    available_bytes: Callable[[], int] = lambda: detect_memory().available_bytes,
    *,
    allowed: Allowed = any_license,
) -> str:
    """`role:…` is the model of that role for this machine; other names stand for themselves. Raises ModelNotFound,
    LicenseNotAccepted."""
    role = role_name(name)
    return recommend_model(available_bytes(), role, allowed=allowed).entry.ref if role else name


def recommend_model(available_bytes: int, role: str = "default", *, allowed: Allowed = any_license) -> Recommendation:
    """The first model of the role that fits the memory, with a margin; else the last, which is the smallest. Raises
    ModelNotFound for an unknown role, LicenseNotAccepted if no model of it has an `allowed` license."""
    entries = [entry for entry in entries_of_role(role) if allowed(entry.license)]
    if not entries:
        raise LicenseNotAccepted(
            f"no model with role:{role} has a license that is allowed", hint="lmsupply models lists what is allowed"
        )
    for entry in entries:
        resolution = expected_variant(entry)
        size = resolution.chosen.size_bytes if resolution else 0
        need = needed_bytes(entry, size)
        if size and need <= available_bytes * MARGIN:
            reason = f"it needs about {format_bytes(need)}; {format_bytes(available_bytes)} available"
            return Recommendation(entry, reason)
    return Recommendation(entries[-1], f"the smallest; only {format_bytes(available_bytes)} available")
