"""What a job or a provider tells of its usage: what is no cost and no count is refused, and said as it was told."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from backlog_worker.domain.budget import Usage

USD_MAX = 1e6  # what one call may cost at most; more is no price but a mistake
TOKENS_MAX = 1e12


def claimed(told: Mapping[str, Any]) -> Usage:
    """Return what a job or a provider tells of one call; whatever is no cost, no count or no name is refused."""
    refused: list[str] = []
    usd = told.get("usd")
    if usd is not None and not _between(usd, USD_MAX):
        refused.append(f"the cost {_shown(usd)} is no number from 0 to {USD_MAX:g} USD")
        usd = None
    counts = {name: told.get(name) for name in ("input_tokens", "output_tokens")}
    for name, value in counts.items():
        if value is not None and not (_between(value, TOKENS_MAX) and value == int(value)):
            refused.append(f"{name} {_shown(value)} is no count from 0 to {TOKENS_MAX:g}")
            counts[name] = None
    known = [value for value in counts.values() if value is not None]
    return Usage(
        model=_name(told.get("model")),
        provider=_name(told.get("provider")),
        input_tokens=int(counts["input_tokens"] or 0),
        output_tokens=int(counts["output_tokens"] or 0),
        usd=None if usd is None else float(usd),
        counted=told.get("counted", True) is True and len(known) == len(counts),
        refused=tuple(refused),
    )


def checked(usage: Usage) -> Usage:
    """Check a usage that an executor made by itself, as `claimed` checks what is told."""
    found = claimed({each.name: getattr(usage, each.name) for each in fields(usage)})
    return replace(found, refused=(*usage.refused, *found.refused))


def _between(value: object, most: float) -> bool:
    """Return whether a value is a number from 0 to *most*; neither a truth nor what is not finite is one."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= most


def _name(value: object) -> str:
    return value[:200] if isinstance(value, str) else ""


def _shown(value: object) -> str:
    try:
        return repr(value)[:60]
    except ValueError:  # an integer of thousands of digits
        return "of thousands of digits"
