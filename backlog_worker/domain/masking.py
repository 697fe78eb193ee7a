"""Masking of secrets in text: values registered in this process, and texts with the shape of a secret.

`keep` registers a value. Always mask before cutting; `cut` does both.
"""

import re
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from backlog_worker.domain.forms import SHORTEST, Finder, finder, finder_in_bytes

MASK = "***"
CUT = " \N{HORIZONTAL ELLIPSIS}"
KEPT_MAX = 1000  # values per process; new values replace the oldest ones
_SHORTEST_SHAPE = 8  # shorter texts are never recognised as a secret by shape
_LONG = 16  # characters; a longer part of a path that contains digits is treated as a secret
_WORD = re.compile(r"[a-z]{0,11}")
_SECRET = re.compile(r"(?i)\b[a-z_]*(?:password|passwd|pwd|token|secret|key)=[^&]+")
_RUN = re.compile(r"[^\s\"<>]+")
_TOKENS = re.compile(
    r"gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w\-]{20,}|sk-[A-Za-z0-9_\-]{20,}"
    r"|xox[abprs]-[A-Za-z0-9\-]{10,}|AKIA[0-9A-Z]{16}|AIza[\w\-]{35}|npm_[A-Za-z0-9]{36}|whsec_[A-Za-z0-9+/=]{20,}"
    r"|(?<![\w\-.])eyJ[\w\-]{10,}\.[\w\-]{10,}\.[\w\-]{10,}"
    r"|-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|\Z)"
)
_HEADER = re.compile(
    r"(?i)\b(?P<head>(?:proxy-)?authorization[\"']{0,2}\s{0,4}[:=]\s{0,4}[\"']?(?:(?:basic|bearer|token)\s{1,4})?)"
    r"[^\s\"',;]{4,}"
)
_BEARER = re.compile(r"(?i)\b(?P<head>bearer\s{1,4})[A-Za-z0-9._~+/=\-]{20,}")
_QUERY = re.compile(
    r"(?i)(?P<head>[?&;](?:[a-z]{0,8}password|passwd|pwd|passphrase|(?:access_|auth_|client_|refresh_)?(?:token|secret)"
    r"|api_?key|sig|signature|credential)=)[^&;\s\"'<>]+"
)
_KEYWORD = re.compile(r"(?i)\b(?P<head>(?:ssl)?password\s{0,4}=\s{0,4})(?:'(?:[^'\\]|\\.)*+'|[^\s'\"]+)")
_DSN = re.compile(r"(?i)\b(?:host|hostaddr|dbname|port)\s{0,4}=")

_known: OrderedDict[str, None] = OrderedDict()
_all: frozenset[str] = frozenset()


def keep(values: Iterable[str]) -> None:
    """Register values: from now on every masked text of this process is free of them."""
    global _all  # noqa: PLW0603 - what a process must not say is one thing for the whole process
    new = [value for value in values if len(value.strip()) >= SHORTEST]
    for value in new:
        _known[value] = None
        _known.move_to_end(value)
    while len(_known) > KEPT_MAX:
        _known.popitem(last=False)
    if not _all.issuperset(new) or len(_all) > len(_known):
        _all = frozenset(_known)


def keep_address(address: str) -> None:
    """Register the secrets in an address: passwords of its user and query, and long parts of its path.

    A short word in small letters, such as `postgres`, is masked in addresses only: it stands in ordinary text.
    """
    _, _, rest = address.partition("://")
    place, _, query = rest.partition("?")
    words = [place.rpartition("@")[0].partition(":")[2], *(each.partition("=")[2] for each in _SECRET.findall(query))]
    words += [part for part in re.split("[/:@]", place)[1:] if len(part) >= _LONG and not part.isalpha()]
    keep(each for word in words for each in (word, unquote(word)) if not (_WORD.fullmatch(each)))


def forget() -> None:
    """Forget all registered values; for tests."""
    global _all  # noqa: PLW0603 - see keep
    _known.clear()
    _all = frozenset()


def masked(text: str, secrets: Sequence[str] = ()) -> str:
    """Return *text* without registered values, without *secrets*, and without texts shaped like a secret."""
    text = _without(text, _finder(secrets))
    if len(text) < _SHORTEST_SHAPE:
        return text
    if "://" in text:
        text = _RUN.sub(_address, text)
    text = _TOKENS.sub(MASK, text)
    if "=" in text or ":" in text:
        text = _HEADER.sub(rf"\g<head>{MASK}", text)
    if "=" in text:
        text = _QUERY.sub(rf"\g<head>{MASK}", text)
        if _DSN.search(text):
            text = _KEYWORD.sub(rf"\g<head>{MASK}", text)
    return _BEARER.sub(rf"\g<head>{MASK}", text)


def cut(text: str, most: int, secrets: Sequence[str] = ()) -> str:
    """Return *text*, masked, in no more than *most* characters; one that is longer ends with ` …`.

    It is masked before the cut, so that no part of a secret is left.
    """
    found = masked(text, secrets)
    return found if len(found) <= most else f"{found[: max(0, most - len(CUT))].rstrip()}{CUT}"[:most]


def without_password(address: str) -> tuple[str, bool]:
    """Return an address without its password, in the user's part or in the query, and whether it had one."""
    parts = urlsplit(address)
    user, at, host = parts.netloc.rpartition("@")
    name, colon, _ = user.partition(":")
    query = parse_qsl(parts.query, keep_blank_values=True)
    kept = [(key, value) for key, value in query if "password" not in key.lower()]
    if not colon and len(kept) == len(query):
        return address, False
    return urlunsplit((parts.scheme, f"{name}{at}{host}", parts.path, urlencode(kept), parts.fragment)), True


def masked_value(value: object, secrets: Sequence[str] = ()) -> object:
    """Mask every text in a JSON value, including keys, and every number whose digits are a secret."""
    if isinstance(value, str):
        return masked(value, secrets)
    if isinstance(value, dict):
        return {masked(str(key), secrets): masked_value(each, secrets) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [masked_value(each, secrets) for each in value]
    if isinstance(value, int | float) and not isinstance(value, bool) and (_all or secrets):
        return MASK if _finder(secrets).spans(str(value)) else value
    return value


def masked_bytes(content: bytes, secrets: Sequence[str] = ()) -> bytes:
    """Return *content* without registered values and without *secrets*."""
    found = finder_in_bytes(_all.union(secrets) if secrets else _all)
    if not found.longest:
        return content
    text = content.decode("latin-1")
    clean = _without(text, found)
    return content if clean is text else clean.encode("latin-1")


class Stream:
    """Masks registered values in a stream of text; the result does not depend on how the text is split.

    Text that may be the beginning of a secret is held back until more text arrives.
    """

    def __init__(self, secrets: Sequence[str] = ()) -> None:
        self._secrets = tuple(secrets)
        self._held = ""
        self._hidden = 0  # the number of leading characters in the buffer that are already masked

    def feed(self, text: str) -> str:
        """Add a piece and return the text that can be released."""
        return self._said(self._held + text, last=False)

    def end(self) -> str:
        """Return the remaining text."""
        return self._said(self._held, last=True)

    def _said(self, text: str, *, last: bool) -> str:
        found = _finder(self._secrets)
        if not found.longest:
            self._held = ""
            return text
        stop = len(text) if last else found.open_end(text)
        said, at, hidden = [], 0, 0
        for begin, end in _with_first(found.spans(text), self._hidden):
            if begin >= stop and (begin or not self._hidden):
                break
            said.append(text[at:begin])
            if begin or not self._hidden:
                said.append(MASK)
            at, hidden = end, max(0, end - stop)
        said.append(text[at:stop])
        self._held, self._hidden = text[stop:], hidden
        return "".join(said)


def _with_first(spans: list[tuple[int, int]], hidden: int) -> list[tuple[int, int]]:
    """Return the spans with the already masked prefix, merged with the spans that overlap it."""
    if not hidden:
        return spans
    end = hidden
    while spans and spans[0][0] < end:
        end = max(end, spans.pop(0)[1])
    return [(0, end), *spans]


def _finder(secrets: Sequence[str]) -> Finder:
    return finder(_all.union(value for value in secrets if len(value.strip()) >= SHORTEST) if secrets else _all)


def _without(text: str, found: Finder) -> str:
    spans = found.spans(text)
    if not spans:
        return text
    parts, at = [], 0
    for begin, end in spans:
        parts += [text[at:begin], MASK]
        at = end
    return "".join([*parts, text[at:]])


def _address(run: re.Match[str]) -> str:
    """Mask the passwords of every address in a text without spaces; a password may contain any character."""
    text = run[0]
    if "://" not in text or "@" not in text:
        return text
    first, *rest = text.split("://")
    return "://".join([first, *(_user(each) for each in rest)])


def _user(text: str) -> str:
    user, at, host = text.rpartition("@")
    name, colon, word = user.partition(":")
    if colon and word:
        return f"{name}:{MASK}{at}{host}"
    return f"{MASK}{at}{host}" if len(user) >= 16 and "/" not in user else text  # noqa: PLR2004 - no name of a person
