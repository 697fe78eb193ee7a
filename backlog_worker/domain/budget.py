"""Budgets: the usage of calls, their price, and whether the estimate of a run fits under a cap."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any, assert_never

from genai_prices import Usage as Tokens
from genai_prices import calc_price


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """The usage of one model call; `usd` is the price reported by the provider, or None.

    Invalid counts and costs are kept, as reported, in `refused` only. A call without all token counts (`counted` is
    false) cannot be priced. `input_tokens` is the total; `cached_tokens` of these came from the provider's cache and
    `stored_tokens` were written to it, each at a price of its own.
    """

    model: str = ""
    provider: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    stored_tokens: int = 0
    usd: float | None = None
    counted: bool = True
    refused: tuple[str, ...] = ()


class Mode(StrEnum):
    """What happens beyond a cap: the first mode only warns, the others hold the work."""

    WARN = "warn"
    ASK = "ask"
    STOP = "stop"
    PAUSE = "pause"


class Scope(StrEnum):
    """What a budget covers: all work of a day, a part of it, or one entry or run in total."""

    DAY = "day"
    TEAM = "team"
    PIPELINE = "pipeline"
    ENTRY = "entry"
    RUN = "run"

    @property
    def renews(self) -> bool:
        """Return whether the budget is reset every day, so that waiting helps."""
        return self in {Scope.DAY, Scope.TEAM, Scope.PIPELINE}

    def name_of(self, *, team: str, pipeline: str, entry: str, run: str) -> str:
        """Return the name under which spending is counted in this scope; it is empty for a day."""
        match self:
            case Scope.DAY:
                return ""
            case Scope.TEAM:
                return team
            case Scope.PIPELINE:
                return pipeline
            case Scope.ENTRY:
                return entry
            case Scope.RUN:
                return run
            case _:
                assert_never(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cap:
    """The state of one budget: its cap, the amounts spent and reserved, and models whose price is unknown."""

    usd: float
    spent: float
    reserved: float
    unknown: tuple[str, ...] = ()

    @property
    def left(self) -> float:
        """Return the remaining amount, which may be negative."""
        return self.usd - self.spent - self.reserved

    def takes(self, estimate: float) -> bool:
        """Return whether a run of that price fits; once the budget is used up nothing fits, not even a free run.

        Calls with an unknown price may have used up any cap, so nothing fits after one either.
        """
        return not self.unknown and self.left > 0 and estimate <= self.left + 1e-9


def price(usage: Usage, overrides: Mapping[str, Mapping[str, float]]) -> float | None:
    """Return the price of a call in US dollars; None if it is unknown, because prices are never guessed.

    A price in the policy (US dollars per million tokens) takes precedence over the price reported by the provider,
    and that one over the public price list.
    """
    own = overrides.get(usage.model)
    if own is not None and (usage.counted or not any(own.values())):  # a free call needs no count
        return _by_policy(usage, own)
    if usage.usd is not None:
        return usage.usd
    if not usage.model or not usage.counted:
        return None
    return _listed(usage)


def learned(
    model: str, input_tokens: int, output_tokens: int, overrides: Mapping[str, Mapping[str, float]]
) -> float | None:
    """Return the price of earlier unpriced calls by the current policy; None if it has no price for the model.

    The share of cached tokens is no longer known, so all input tokens are priced at the highest input price.
    """
    own = overrides.get(model)
    if own is None:
        return None
    dearest = max(own.get(name, 0.0) for name in ("input", "cached", "stored"))
    return (input_tokens * dearest + output_tokens * own.get("output", 0.0)) / 1e6


def _by_policy(usage: Usage, own: Mapping[str, float]) -> float:
    """Return the price by the policy; cached tokens without a price of their own cost as much as the input."""
    fresh = usage.input_tokens - usage.cached_tokens - usage.stored_tokens
    plain = own.get("input", 0.0)
    read = fresh * plain + usage.cached_tokens * own.get("cached", plain)
    read += usage.stored_tokens * own.get("stored", plain)
    return (read + usage.output_tokens * own.get("output", 0.0)) / 1e6


@lru_cache(maxsize=4096)
def _listed(usage: Usage) -> float | None:
    """Return the price from the public list; a cache without its own price costs as much as the input."""
    counts = {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens}
    cache = {"cache_read_tokens": usage.cached_tokens, "cache_write_tokens": usage.stored_tokens}
    tokens = Tokens(**counts, **{name: count for name, count in cache.items() if count})
    extra: dict[str, Any] = {"provider_id": usage.provider} if usage.provider else {}
    try:
        return float(calc_price(tokens, model_ref=usage.model, **extra).total_price)
    except (LookupError, ValueError):
        return None
