"""The JSON of one answer, as `run --json`, its stream and a batch print it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lmsupply_cli.config.layers import Value
from lmsupply_cli.events import Notice, SpeculativeStats, TokenLogprob
from lmsupply_cli.generation.completion import Completion, ModelInfo
from lmsupply_cli.render.flags import as_flags


def run_object(
    answer: Completion, info: ModelInfo, options: Mapping[str, Value], notices: Sequence[Notice], *, thoughts: bool
) -> dict[str, Any]:
    usage, timings = answer.usage, answer.timings
    return {
        "text": answer.text,
        "reasoning": (answer.reasoning or None) if thoughts else None,
        "model": model_object(info),
        "finish_reason": answer.finish_reason,
        "usage": {
            "prompt_tokens": usage.prompt_tokens,
            "cached_tokens": usage.cached_tokens,
            "completion_tokens": usage.completion_tokens,
        },
        "timings": {
            "load_s": round(timings.load_s, 4),
            "ttft_s": round(timings.ttft_s, 4),
            "prefill_s": round(timings.prefill_s, 4),
            "decode_s": round(timings.decode_s, 4),
        },
        **({} if answer.complete is None else {"complete": answer.complete}),
        **({"logprobs": [logprob_object(one) for one in answer.logprobs]} if answer.logprobs else {}),
        "options": options_object(options),
        **({"speculative": _speculative(answer.speculative)} if answer.speculative else {}),
        "notices": notices_object(notices),
    }


def notices_object(notices: Sequence[Notice]) -> list[dict[str, str]]:
    return [{"code": n.code, "text": as_flags(n.text)} for n in notices]


def logprob_object(scores: TokenLogprob) -> dict[str, Any]:
    top = [{"text": one.text, "token": one.token, "logprob": round(one.logprob, 6)} for one in scores.top]
    return {"text": scores.text, "token": scores.token, "logprob": round(scores.logprob, 6), "top": top}


def model_object(info: ModelInfo) -> dict[str, Any]:
    return {
        "ref": info.ref,
        "repo": info.repo or None,
        "commit": info.commit or None,
        "variant": info.variant or None,
        "provider": info.provider,
        "precision": info.precision,
    }


def options_object(options: Mapping[str, Value]) -> dict[str, Any]:
    return {key: {"value": _plain(value.value), "source": value.source} for key, value in options.items()}


def _plain(value: Any) -> Any:
    """Pairs of a logit bias as an object."""
    pairs = isinstance(value, tuple) and value and isinstance(value[0], tuple)
    return {str(token): number for token, number in value} if pairs else value


def _speculative(stats: SpeculativeStats) -> dict[str, float]:
    return {
        "proposed": stats.proposed,
        "accepted": stats.accepted,
        "rate": round(stats.rate, 4),
        "rounds": stats.rounds,
        "tokens_per_s": round(stats.tokens_per_s, 2),
    }
