"""Secrets out of anything that leaves: passwords in addresses, and tokens by their known shapes."""

import re

MASK = "***"
SHORTEST = 8  # nothing shorter holds a password or a token
_PASSWORD = re.compile(r"(?P<head>[a-z][a-z0-9+.\-]*://[^\s:/@]*:)[^\s@]+(?=@)")
_TOKENS = re.compile(
    r"gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w\-]{20,}|sk-[A-Za-z0-9_\-]{20,}"
    r"|xox[abprs]-[A-Za-z0-9\-]{10,}|AKIA[0-9A-Z]{16}|eyJ[\w\-]{10,}\.[\w\-]{10,}\.[\w\-]{10,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)"
)


def masked(text: str) -> str:
    """Return *text* without passwords of addresses and without anything shaped like a token."""
    if len(text) < SHORTEST:
        return text
    if "://" in text:
        text = _PASSWORD.sub(rf"\g<head>{MASK}", text)
    return _TOKENS.sub(MASK, text)


def masked_value(value: object) -> object:
    """Mask every text inside a JSON value, keys included."""
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, dict):
        return {masked(str(key)): masked_value(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [masked_value(each) for each in value]
    return value
