"""Dedupe keys: computed from an issue's address, or from the content of a record without one."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from backlog_worker.domain.events import digest

GITHUB = "github.com"
_GITHUB_ISSUE = re.compile(
    r"^https?://(?:www\.)?(?P<host>[^/@\s]+)/(?P<path>[\w.-]+/[\w.-]+)/(?:issues|pull)/(?P<number>\d+)/?(?:[?#].*)?$",
    re.IGNORECASE,
)
_GITLAB_ISSUE = re.compile(
    r"^https?://(?P<host>[^/@\s]+)/(?P<path>[\w.-]+(?:/[\w.-]+)+?)/-/(?:issues|work_items|merge_requests)"
    r"/(?P<number>\d+)/?(?:[?#].*)?$",
    re.IGNORECASE,
)
_JIRA_ISSUE = re.compile(
    r"^https?://(?P<host>[^/@\s]+)/(?:[\w.-]+/)*browse/(?P<number>[A-Z][A-Z0-9_]*-\d+)/?(?:[?#].*)?$", re.IGNORECASE
)
_TRACKED = re.compile(r"^(?P<tracker>github|gitlab):(?P<path>[^#\s]+)#(?P<number>\d+)$", re.IGNORECASE)


def key_of(url: str) -> str:
    """Return the dedupe key of an issue's address, or "" for any other address.

    The host is part of the key, except github.com. Hosts, owners and repositories are case-insensitive.
    """
    if match := _GITLAB_ISSUE.match(url):
        return f"gitlab:{match['host']}/{match['path']}#{match['number']}".lower()
    if match := _GITHUB_ISSUE.match(url):
        host = "" if match["host"].lower() == GITHUB else f"{match['host']}/"
        return f"github:{host}{match['path']}#{match['number']}".lower()
    if match := _JIRA_ISSUE.match(url):
        return f"jira:{match['host'].lower()}/{match['number'].upper()}"
    return ""


def source_of(key: str) -> str:
    """Return the source in an issue's key: the part before its number."""
    return key.rpartition("#")[0] if _TRACKED.match(key) else ""


def folded(key: str) -> str:
    """Return the canonical form of a key: an issue's key is lower case and does not contain github.com."""
    match = _TRACKED.match(key.strip())
    if not match:
        return key
    tracker, path = match["tracker"].lower(), match["path"].lower()
    if tracker == "github":
        path = path.removeprefix("www.").removeprefix(f"{GITHUB}/")
    return f"{tracker}:{path}#{match['number']}"


def content_key(record: Mapping[str, Any], file: str) -> str:
    """Return the key of a record that has neither a key nor an address: a digest of its content.

    Only records with identical content share a key. If a record has no date, the file name is part of its key.
    """
    names = ("external_ref", "title", "author", "created_at", "source", "url", "input")
    told = {name: record[name] for name in names if record.get(name)}
    place = {} if record.get("created_at") else {"file": file}
    return f"record:{digest({**told, **place})[:24]}"


def former(key: str, spelled: str, url: str, external_ref: str) -> Iterator[str]:
    """Yield the keys under which earlier releases filed this record.

    Those keys had no host, kept the case of owner and repository, and used `unknown` for a missing repository.
    """
    match = _GITHUB_ISSUE.match(url)
    spellings = [spelled, f"github:{match['path']}#{match['number']}" if match else ""]
    if not url and external_ref:
        spellings.append(f"github:unknown#{external_ref}")
    for each in dict.fromkeys(spellings):
        if each and each != key:
            yield each


def same_record(url: str, title: str, born: Mapping[str, Any]) -> bool:
    """Return whether the entry filed under a former key is this record, compared by address, else by title."""
    before = str(born.get("url") or "")
    if url or before:
        return (key_of(url) or url) == (key_of(before) or before)
    return " ".join(title.split()) == born.get("title")


def referred(text: str, key: str) -> str:
    """Resolve a reference in the record with *key* to a dedupe key: `#12`, `acme/api#12`, an address or a key.

    Any other text is returned unchanged.
    """
    said = text.strip()
    own = source_of(key)
    if own and re.fullmatch(r"#?\d+", said):
        return f"{own}#{said.removeprefix('#')}"
    match = re.fullmatch(r"([\w.-]+(?:/[\w.-]+)+)#(\d+)", said)
    if match and own:
        tracker, _, path = own.partition(":")
        host = path.split("/")[0] if tracker == "gitlab" or path.count("/") > 1 else ""
        named = match[1] if not host or match[1].lower().startswith(f"{host}/") else f"{host}/{match[1]}"
        return f"{tracker}:{named}#{match[2]}".lower()
    return key_of(said) or folded(said)
