"""Money: what a call used, what that costs, what a run may be expected to cost, and what a cap says to it."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any, assert_never

from genai_prices import Usage as Tokens
from genai_prices import calc_price


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What one call of a model used; `usd` is what the provider said, None where it did not say.

    What was no cost or no count is refused: it stands in `refused` as it was told, and nowhere else. Without all of
    its tokens (`counted`) nobody can price a call. `input_tokens` are all that were read; `cached_tokens` of them came
    from the provider's cache, and `stored_tokens` were put into it: each has a price of its own.
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
    """What happens beyond a cap: the first is said, the others hold the work."""

    WARN = "warn"
    ASK = "ask"
    STOP = "stop"
    PAUSE = "pause"


class Scope(StrEnum):
    """What a budget of the policy is counted over: all work of a day, a part of it, or one entry or run in all."""

    DAY = "day"
    TEAM = "team"
    PIPELINE = "pipeline"
    ENTRY = "entry"
    RUN = "run"

    @property
    def renews(self) -> bool:
        """Return whether waiting helps: what was spent counts for its day only."""
        return self in {Scope.DAY, Scope.TEAM, Scope.PIPELINE}

    def name_of(self, *, team: str, pipeline: str, entry: str, run: str) -> str:
        """Return the name under which spending counts in this scope; a day has none."""
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
    """One budget as it stands: the cap, what was spent and reserved in it, and models whose price nobody knows."""

    usd: float
    spent: float
    reserved: float
    unknown: tuple[str, ...] = ()

    @property
    def left(self) -> float:
        """Return what is left, which may be less than nothing."""
        return self.usd - self.spent - self.reserved

    def takes(self, estimate: float) -> bool:
        """Return whether one more run of that price fits; with nothing left nothing fits, not even what is free.

        Calls whose price nobody knows may have used up any cap: then nothing fits either.
        """
        return not self.unknown and self.left > 0 and estimate <= self.left + 1e-9


def price(usage: Usage, overrides: Mapping[str, Mapping[str, float]]) -> float | None:
    """Return the price of a call in US dollars; None where nobody knows it, which is said and never guessed.

    A price of the policy (US dollars for a million tokens) goes before what the provider said, and that before the
    public list.
    """
    own = overrides.get(usage.model)
    if own is not None and (usage.counted or not any(own.values())):  # what is free needs no count
        return _by_policy(usage, own)
    if usage.usd is not None:
        return usage.usd
    if not usage.model or not usage.counted:
        return None
    return _listed(usage)


def learned(
    model: str, input_tokens: int, output_tokens: int, overrides: Mapping[str, Mapping[str, float]]
) -> float | None:
    """Return the price of calls that had none when they were made, by the policy of now; None where it has none.

    How many of their tokens came from a cache is not known any more: all of the input costs what the dearest does.
    """
    own = overrides.get(model)
    if own is None:
        return None
    dearest = max(own.get(name, 0.0) for name in ("input", "cached", "stored"))
    return (input_tokens * dearest + output_tokens * own.get("output", 0.0)) / 1e6


def _by_policy(usage: Usage, own: Mapping[str, float]) -> float:
    """Return the price by the policy; tokens of the cache cost what the input costs unless they have their own."""
    fresh = usage.input_tokens - usage.cached_tokens - usage.stored_tokens
    plain = own.get("input", 0.0)
    read = fresh * plain + usage.cached_tokens * own.get("cached", plain)
    read += usage.stored_tokens * own.get("stored", plain)
    return (read + usage.output_tokens * own.get("output", 0.0)) / 1e6


@lru_cache(maxsize=4096)
def _listed(usage: Usage) -> float | None:
    """Return the price of the public list; a cache without a price of its own costs what the input costs."""
    counts = {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens}
    cache = {"cache_read_tokens": usage.cached_tokens, "cache_write_tokens": usage.stored_tokens}
    tokens = Tokens(**counts, **{name: count for name, count in cache.items() if count})
    extra: dict[str, Any] = {"provider_id": usage.provider} if usage.provider else {}
    try:
        return float(calc_price(tokens, model_ref=usage.model, **extra).total_price)
    except (LookupError, ValueError):
        return None
