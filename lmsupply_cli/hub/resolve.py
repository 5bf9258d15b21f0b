"""Which variant of a repo to take: a pure choice with its reasons.

The order: the device made for the wanted provider, then the wanted precision (else int4, int8,
fp16), then on CPU acc-level-4, then awq, kld and kquant before rtn, then fewer bytes, then the name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import NamedTuple

from lmsupply_cli.errors import ModelNotFound, UsageError
from lmsupply_cli.hub.variant import DEVICES, Variant, tokens_of
from lmsupply_cli.providers import GPU, PRECISIONS, PROVIDERS

RUNS_ON: Mapping[str, Sequence[str]] = {row.name: row.runs for row in PROVIDERS}
_SPELLED = {row.name: row.label for row in PROVIDERS} | {GPU: "GPU", "npu": "NPU"}
_UNSTATED = "precision not stated"
_NONE: Mapping[str, str] = MappingProxyType({})
_NEUTRAL = set(DEVICES) | set(PRECISIONS) | {"onnx", "onnxruntime"}


@dataclass(frozen=True, slots=True)
class VariantWish:
    """Which variant is wanted. `variant`: its folder, one that holds several, or a part of a name that is unique; `exact`:
    no precision but the given one will do; `on_cpu`: what is made for something else may be tried on the CPU, since that
    was asked for; `by_machine`: nobody named the precision, it is what suits this machine."""

    provider: str = "cpu"
    precision: str = "auto"
    variant: str | None = None
    exact: bool = False
    on_cpu: bool = False
    by_machine: bool = False


class Resolution(NamedTuple):
    """What was chosen and why, and why each other one was not."""

    chosen: Variant
    reasons: tuple[str, ...]
    rejected: tuple[tuple[Variant, str], ...]


def resolve(
    variants: Sequence[Variant], wish: VariantWish, *, folder: str = "", unusable: Mapping[str, str] = _NONE
) -> Resolution:
    """`folder`: the part of the repo to stay in; `unusable`: variants that run nowhere here, with the reason: only taken
    where there is no other.

    Raises UsageError for a wish that is unclear, ModelNotFound where nothing suits.
    """
    provider, precision = wish.provider, wish.precision
    outside = tuple((v, "another model of this repo") for v in variants if folder and not _within(v.folder, folder))
    inside = [v for v in variants if not folder or _within(v.folder, folder)]
    if not inside:
        raise ModelNotFound(
            f"the repo has no folder {folder}", hint="its layout changed; name one of: " + _names(variants)
        )
    asked: tuple[str, ...] = ()
    if wish.variant:
        named = _named(inside, wish.variant)
        outside += tuple((v, "another one was asked for") for v in inside if v not in named)
        if len(named) == 1:
            if wish.exact:
                _of_precision(named, precision, provider)
            return Resolution(named[0], ("you asked for it",), outside)
        inside, asked = named, (f"the best in {wish.variant.strip('/')}, which you asked for",)
    _one_model(inside)
    devices = RUNS_ON[provider]
    fitting = [v for v in inside if v.device in devices] or (inside if wish.on_cpu else [])
    if not fitting:
        made_for = ", ".join(sorted({v.declared or v.device for v in inside}))
        raise ModelNotFound(
            f"no variant runs on {provider}; made for: {made_for}",
            hint="`provider=cpu` may run one of them on the CPU; choose it as owner/repo:folder: " + _names(inside),
        )
    fitting = [v for v in fitting if v.folder not in unusable] or fitting
    if wish.exact:
        same = _of_precision(fitting, precision, provider)
        outside += tuple((v, f"{v.precision or _UNSTATED}, not {precision}") for v in fitting if v not in same)
        inside, fitting = [v for v in inside if v in same or v not in fitting], same
    order = [precision, *(p for p in PRECISIONS if p != precision)]

    def rank(variant: Variant) -> tuple[object, ...]:
        return (
            devices.index(variant.device) if variant.device in devices else len(devices),
            order.index(variant.precision) if variant.precision in order else len(order),
            not {"acc", "level", "4"} <= variant.tokens if variant.device in ("cpu", "") else False,
            "rtn" in variant.tokens,
            variant.size_bytes,
            variant.folder,
        )

    best, *others = sorted(fitting, key=rank)
    rejected = [(v, _why_behind(v, best)) for v in others]
    rejected += [(v, _why_not(v, devices, unusable)) for v in inside if v not in fitting]
    return Resolution(best, asked + _why(best, provider, precision, others), outside + tuple(rejected))


def _why_not(variant: Variant, devices: Sequence[str], unusable: Mapping[str, str]) -> str:
    if variant.device not in devices:
        return f"made for {variant.declared or variant.device}"
    return unusable.get(variant.folder, "it does not run here")


def _why(best: Variant, provider: str, precision: str, others: Sequence[Variant]) -> tuple[str, ...]:
    made_for = _build(best.declared or best.device)
    if best.device not in RUNS_ON[provider]:
        device = f"{made_for}, tried on the CPU as requested"
    elif best.device in (provider, GPU) and best.device:
        device = made_for
    elif best.device:
        device = f"{made_for}, which also runs on {provider}"
    else:
        device = "not built for a particular device"
    wish = best.precision or _UNSTATED
    if best.precision and precision in PRECISIONS and best.precision != precision:
        wish += f" (no {precision} variant)"
    return (device, wish, *(() if others else ("the only match",)))


def _build(device: str) -> str:
    """`CPU build`, `DirectML build` …"""
    return f"{_SPELLED.get(device, device)} build"


def _of_precision(variants: Sequence[Variant], precision: str, provider: str) -> list[Variant]:
    """Raises UsageError if there is none."""
    same = [v for v in variants if v.precision == precision]
    if not same:
        known = dict.fromkeys(v.precision for v in sorted(variants, key=lambda v: v.precision) if v.precision)
        has = f"it has {', '.join(known)}" if known else "it states no precision"
        raise UsageError(
            f"the repo has no {precision} variant for {provider}", hint=f"{has}; `precision=auto` picks the best"
        )
    return same


def _why_behind(variant: Variant, best: Variant) -> str:
    if variant.device != best.device:
        return f"made for {variant.device or 'any device'}, which is second to {best.device or 'any'}"
    if variant.precision != best.precision:
        return f"{variant.precision or _UNSTATED} ranks behind {best.precision or _UNSTATED}"
    if {"acc", "level", "4"} <= best.tokens and not {"acc", "level", "4"} <= variant.tokens:
        return "slower on CPU: no acc-level-4"
    if "rtn" in variant.tokens and "rtn" not in best.tokens:
        return "rtn quantization is less exact"
    return "larger" if variant.size_bytes > best.size_bytes else "ranks behind by name"


def _named(variants: Sequence[Variant], wanted: str) -> list[Variant]:
    """The variant of that name, those in the folder of that name, or the one with it in its name."""
    name = wanted.strip("/").lower()
    exact = [v for v in variants if v.folder.lower() == name] or [
        v for v in variants if _within(v.folder.lower(), name)
    ]
    found = exact or [v for v in variants if name in v.folder.lower()]
    if not exact and len(found) != 1:
        count = f"{len(found)} variants match" if found else "no variant matches"
        raise UsageError(f"{count} {wanted!r}", hint="variants: " + _names(found or variants))
    return found


def _one_model(variants: Sequence[Variant]) -> None:
    """Several models in one repo are told apart by the parts of the path that name no device or precision."""
    if len({_model_part(v.folder) for v in variants}) > 1:
        raise UsageError("the repo holds several models", hint="name one as owner/repo:folder, of: " + _names(variants))


def _model_part(folder: str) -> str:
    parts = PurePosixPath(folder).parts
    device = next((at for at, part in enumerate(parts) if tokens_of(part) & set(DEVICES)), len(parts))
    return "/".join(part for part in parts[:device] if not tokens_of(part) & _NEUTRAL)


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _names(variants: Sequence[Variant]) -> str:
    return ", ".join(v.name for v in variants)
