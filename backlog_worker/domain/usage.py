"""Usage reported by a job or a provider: invalid costs and counts are refused, and recorded as reported."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from backlog_worker.domain.budget import Usage
from backlog_worker.domain.legible import legible

USD_MAX = 1e6  # the maximum cost of one call; a higher one is an error
TOKENS_MAX = 1e12


def claimed(told: Mapping[str, Any]) -> Usage:
    """Validate the reported usage of one call; invalid costs, counts and names are refused."""
    refused: list[str] = []
    usd = told.get("usd")
    if usd is not None and not _between(usd, USD_MAX):
        refused.append(f"the cost {_shown(usd)} is not a number from 0 to {USD_MAX:g} USD")
        usd = None
    counts = {name: told.get(name) for name in ("input_tokens", "output_tokens")}
    for name, value in counts.items():
        if value is not None and not _is_count(value):
            refused.append(f"{name} {_shown(value)} is not a count from 0 to {TOKENS_MAX:g}")
            counts[name] = None
    known = [value for value in counts.values() if value is not None]
    read = int(counts["input_tokens"] or 0)
    cached = _part(told, "cached_tokens", read, refused)
    stored = _part(told, "stored_tokens", read - cached, refused)
    return Usage(
        model=_name(told.get("model")),
        provider=_name(told.get("provider")),
        input_tokens=read,
        output_tokens=int(counts["output_tokens"] or 0),
        cached_tokens=cached,
        stored_tokens=stored,
        usd=None if usd is None else float(usd),
        counted=told.get("counted", True) is True and len(known) == len(counts),
        refused=tuple(refused),
    )


def of_provider(told: object) -> dict[str, Any]:
    """Return the token counts of one call from any provider's format; missing counts are None.

    OpenAI includes cached tokens in `prompt_tokens`; Anthropic reports them in addition to `input_tokens`.
    """
    usage: Mapping[str, Any] = told if isinstance(told, dict) else {}
    read = usage.get("prompt_tokens", usage.get("input_tokens"))
    details = usage.get("prompt_tokens_details", usage.get("input_tokens_details"))
    inside = details.get("cached_tokens") if isinstance(details, dict) else usage.get("cached_input_tokens")
    cached, stored = usage.get("cache_read_input_tokens"), usage.get("cache_creation_input_tokens")
    if cached is None and stored is None:
        cached = inside
    elif _is_count(read):
        read = sum(each for each in (read, cached, stored) if _is_count(each))
    return {
        "input_tokens": read,
        "output_tokens": usage.get("completion_tokens", usage.get("output_tokens")),
        "cached_tokens": cached,
        "stored_tokens": stored,
    }


def checked(usage: Usage) -> Usage:
    """Validate a usage built by an executor by the same rules as `claimed`."""
    found = claimed({each.name: getattr(usage, each.name) for each in fields(usage)})
    return replace(found, refused=(*usage.refused, *found.refused))


def _part(told: Mapping[str, Any], name: str, most: int, refused: list[str]) -> int:
    """Return a part of the input tokens; an invalid part is priced like the rest."""
    value = told.get(name)
    if value is None:
        return 0
    if not _is_count(value) or value > most:
        refused.append(f"{name} {_shown(value)} is not a count from 0 to the remaining {most} input tokens")
        return 0
    return int(value)


def _is_count(value: Any) -> bool:  # noqa: ANN401 - free JSON of a provider
    return _between(value, TOKENS_MAX) and value == int(value)


def _between(value: object, most: float) -> bool:
    """Return whether a value is a finite number from 0 to *most*; booleans are not numbers."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= most


def _name(value: object) -> str:
    return legible(value[:200]) if isinstance(value, str) else ""


def _shown(value: object) -> str:
    try:
        return legible(repr(value)[:60])
    except (ValueError, RecursionError):  # an integer with thousands of digits, or deep nesting
        return "of a size that nobody reads"
