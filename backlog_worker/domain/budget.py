"""Money: what a call used, what that costs, what a run may be expected to cost, and what a cap says to it."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any

from genai_prices import Usage as Tokens
from genai_prices import calc_price


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What one call of a model used; `usd` is what the provider said, None where it did not say."""

    model: str = ""
    provider: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    usd: float | None = None


class Mode(StrEnum):
    """What happens beyond a cap."""

    WARN = "warn"
    ASK = "ask"
    STOP = "stop"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cap:
    """One budget as it stands: the cap, and what was spent and reserved in it."""

    usd: float
    spent: float
    reserved: float

    @property
    def left(self) -> float:
        """Return what is left, which may be less than nothing."""
        return self.usd - self.spent - self.reserved

    def takes(self, estimate: float) -> bool:
        """Return whether one more run of that price fits; with nothing left nothing fits, not even what is free."""
        return self.left > 0 and estimate <= self.left + 1e-9


def price(usage: Usage, overrides: Mapping[str, Mapping[str, float]]) -> float | None:
    """Return the price of a call in US dollars; None where nobody knows it, which is said and never guessed.

    A price of the policy (US dollars for a million tokens) goes before what the provider said, and that before the
    public list.
    """
    if own := overrides.get(usage.model):
        return (usage.input_tokens * own.get("input", 0.0) + usage.output_tokens * own.get("output", 0.0)) / 1e6
    if usage.usd is not None:
        return usage.usd
    if not usage.model:
        return None
    return _listed(usage.model, usage.provider, usage.input_tokens, usage.output_tokens)


@lru_cache(maxsize=4096)
def _listed(model: str, provider: str, read: int, written: int) -> float | None:
    tokens = Tokens(input_tokens=read, output_tokens=written)
    extra: dict[str, Any] = {"provider_id": provider} if provider else {}
    try:
        return float(calc_price(tokens, model_ref=model, **extra).total_price)
    except (LookupError, ValueError):
        return None
