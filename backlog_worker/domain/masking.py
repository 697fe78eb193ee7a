"""Secrets out of anything that leaves: passwords in addresses, tokens by their known shapes, and values by name."""

import base64
import json
import re
from collections.abc import Sequence
from functools import lru_cache
from urllib.parse import quote

MASK = "***"
SHORTEST = 8  # nothing shorter holds a password or a token by its shape
SHORTEST_VALUE = 4  # a shorter value would blot out ordinary words
_PASSWORD = re.compile(r"(?P<head>[a-z][a-z0-9+.\-]*://[^\s:/@]*:)[^\s@]+(?=@)")
_TOKENS = re.compile(
    r"gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w\-]{20,}|sk-[A-Za-z0-9_\-]{20,}"
    r"|xox[abprs]-[A-Za-z0-9\-]{10,}|AKIA[0-9A-Z]{16}|eyJ[\w\-]{10,}\.[\w\-]{10,}\.[\w\-]{10,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)"
)


def masked(text: str, secrets: Sequence[str] = ()) -> str:
    """Return *text* without these values in any of their usual writings, and without anything shaped like a secret."""
    for form in _forms(tuple(secrets)):
        if form in text:
            text = text.replace(form, MASK)
    if len(text) < SHORTEST:
        return text
    if "://" in text:
        text = _PASSWORD.sub(rf"\g<head>{MASK}", text)
    return _TOKENS.sub(MASK, text)


def masked_value(value: object, secrets: Sequence[str] = ()) -> object:
    """Mask every text inside a JSON value, keys included."""
    if isinstance(value, str):
        return masked(value, secrets)
    if isinstance(value, dict):
        return {masked(str(key), secrets): masked_value(each, secrets) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [masked_value(each, secrets) for each in value]
    return value


def masked_bytes(content: bytes, secrets: Sequence[str]) -> bytes:
    """Return *content* without these values."""
    for form in _forms(tuple(secrets)):
        content = content.replace(form.encode(), MASK.encode())
    return content


@lru_cache(maxsize=256)
def _forms(secrets: tuple[str, ...]) -> tuple[str, ...]:
    """Return the writings of secret values: plain, in JSON, in an address, in base64, by line; the longest first."""
    found: set[str] = set()
    for value in secrets:
        lines = [value, *(line for line in value.splitlines() if len(line) > SHORTEST)]
        for each in lines:
            encoded = base64.b64encode(each.encode()).decode()
            found |= {each, json.dumps(each)[1:-1], quote(each, safe=""), encoded, encoded.rstrip("=")}
    return tuple(sorted((form for form in found if len(form) >= SHORTEST_VALUE), key=len, reverse=True))
