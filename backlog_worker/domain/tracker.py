"""Records of trackers to drafts: `gh --json`, REST dumps of GitHub, GitLab and Jira; anything else is already a draft.

Invalid values are passed on unchanged, so that the validation of the draft names the field.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from backlog_worker.domain import dedupe
from backlog_worker.domain.draft import Constraints
from backlog_worker.domain.masking import cut

ELIGIBLE_LABEL = "ai-ok"
# Fields of a draft that no tracker has, or that take precedence over values read from labels.
OURS = (
    *("constraints", "category", "service", "signals", "due_date", "pipeline", "priority", "team"),
    *("owner", "eligible_by", "eligible_at", "dedupe_key", "source"),
)
# How people label priorities in trackers, in our words; other names stay as they are and the policy judges them.
_PRIORITY = re.compile(r"^(?:p(?:rio(?:rity)?)?\s*[:/ -]?\s*)?(high|medium|low|[0-4])$", re.IGNORECASE)
_NUMBERED = {"0": "high", "1": "medium", "2": "low", "3": "low", "4": "low"}
_JIRA_PRIORITY = {"highest": "high", "lowest": "low"}
_TEAM = re.compile(r"^team[:/ ]\s*(.+)$", re.IGNORECASE)
_API_REPOSITORY = re.compile(r"^https?://(?:api\.)?(?P<host>[^/]+)/(?:api/v\d+/)?repos/(?P<path>[^/]+/[^/]+)/?")
_ENDED = frozenset({"closed", "merged", "done"})
_OPEN = frozenset({"open", "opened", "reopened"})
_DEPENDENCIES = ("depends_on", "dependsOn", "blocked_by", "blockedBy")
_INPUT = ("number", "title", "body", "comments", "attachments", "similar")
Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """A record that is not open work, with the reason: it is counted and reported, but not filed."""

    why: str
    title: str = ""
    key: str = ""
    url: str = ""
    number: str = ""

    @property
    def names(self) -> set[str]:
        """Return the names by which other records may refer to it."""
        return {self.key, self.number, self.title} - {""}


def drafted(record: Record) -> Record | Passed:
    """Return a record as a draft, or why it is skipped: a pull request, or closed at its source."""
    made: Record
    if "fields" in record and "key" in record:
        made = {**_jira(record), **_carried(record)}
    elif "iid" in record and "title" in record:
        made = {**_gitlab(record), **_carried(record)}
    elif "number" in record and "title" in record:
        made = {**_github(record), **_carried(record)}
    else:
        made = record
    if made is record and str(record.get("state")).lower() in _OPEN:
        made = {name: value for name, value in record.items() if name != "state"}
    if why := _passed(record):
        title, url, number = identity(made)
        return Passed(why=why, key=str(made.get("dedupe_key") or ""), title=title, url=url, number=number)
    return made


def _carried(issue: Record) -> dict[str, Any]:
    """Return the fields of a draft that somebody added to an issue for the import.

    A condition on running outside of `constraints` is passed on unchanged, so that it is refused.
    """
    return {name: issue[name] for name in (*OURS, *Constraints.model_fields) if issue.get(name) not in (None, "")}


def identity(record: Record) -> tuple[str, str, str]:
    """Return the title, the address and the number of a record of any form."""
    fields = record.get("fields")
    title = record.get("title") or (fields.get("summary") if isinstance(fields, Mapping) else "")
    url = record.get("html_url") or record.get("web_url") or record.get("url") or record.get("self")
    number = next((record[name] for name in ("external_ref", "number", "iid", "key") if record.get(name)), "")
    return _shown(title), _shown(url), _shown(number)


def _shown(value: object) -> str:
    return cut(str(value).encode("utf-8", "replace").decode(), 200) if isinstance(value, str | int) else ""


def _passed(record: Record) -> str:
    if record.get("pull_request") is not None:
        return "a pull request, not an issue"
    state, fields = record.get("state"), record.get("fields")
    if isinstance(fields, Mapping):
        state = _in(fields, "status", "statusCategory", "key")
    elif not isinstance(state, str) or not state:
        state = "closed" if record.get("closed") is True or record.get("closed_at") or record.get("closedAt") else ""
    return "closed at its source" if str(state).lower() in _ENDED else ""


def _github(issue: Record) -> dict[str, Any]:
    """Translate an issue from `gh --json` or the REST interface; the data for a worker goes into `input`."""
    labels, number = _names(issue.get("labels"), "name"), issue["number"]
    url = _github_url(issue)
    people = _names(issue.get("assignees"), "login")
    draft = _draft(issue, labels, url=url, number=number)
    draft["owner"] = people[0] if isinstance(people, list) and people else _person(issue.get("assignee"), "login")
    draft["author"] = _person(issue.get("author") or issue.get("user"), "login")
    if association := issue.get("author_association") or issue.get("authorAssociation"):
        draft["author_association"] = association
    draft["input"] = {name: issue[name] for name in _INPUT if name in issue and not _counted(name, issue[name])}
    return draft


def _gitlab(issue: Record) -> dict[str, Any]:
    labels = _names(issue.get("labels"), "name", "title")
    people = _names(issue.get("assignees"), "username")
    draft = _draft(issue, labels, url=issue.get("web_url") or issue.get("webUrl") or "", number=issue["iid"])
    draft["owner"] = people[0] if isinstance(people, list) and people else _person(issue.get("assignee"), "username")
    draft["author"] = _person(issue.get("author"), "username")
    due = issue.get("due_date") or issue.get("dueDate")
    body = {"body": issue["description"]} if issue.get("description") is not None else {}
    draft["input"] = {"number": issue["iid"], "title": issue["title"], **body}
    return {**draft, **({"due_date": due} if due else {})}


def _jira(issue: Record) -> dict[str, Any]:
    fields = issue["fields"] if isinstance(issue["fields"], Mapping) else {}
    labels, title = _names(fields.get("labels"), "name"), fields.get("summary")
    host = re.match(r"^(https?://[^/]+(?:/[\w.-]+)*?)/rest/", str(issue.get("self") or ""))
    url = f"{host[1]}/browse/{issue['key']}" if host else ""
    told = {"title": title, "created_at": fields.get("created"), "updated_at": fields.get("updated")}
    draft = _draft({**issue, **told}, labels, url=url, number=issue["key"])
    if named := str(_in(fields, "priority", "name") or "").lower():
        draft["priority"] = _JIRA_PRIORITY.get(named, named)
    draft["owner"] = _person(fields.get("assignee"), "name", "displayName", "accountId")
    draft["author"] = _person(fields.get("reporter"), "name", "displayName", "accountId")
    text = _text(fields.get("description"))
    draft["input"] = {"number": issue["key"], "title": title, **({"body": text} if text else {})}
    return {**draft, **({"due_date": fields["duedate"]} if fields.get("duedate") else {})}


def _draft(issue: Record, labels: Any, *, url: object, number: object) -> dict[str, Any]:  # noqa: ANN401 - as it stands
    """Return the fields common to issues of all trackers; without an address the key is made from the content."""
    said = [each for each in labels if isinstance(each, str)] if isinstance(labels, list) else []
    key = dedupe.key_of(url) if isinstance(url, str) else ""
    eligible = ELIGIBLE_LABEL in said
    made: dict[str, Any] = {
        "title": issue["title"],
        **({"dedupe_key": key, "source": dedupe.source_of(key)} if key else {}),
        "url": url,
        "external_ref": str(number),
        "labels": labels,
        **_priority(said),
        "team": next((found.group(1) for label in said if (found := _TEAM.match(label))), ""),
        "eligible_by": f"label {ELIGIBLE_LABEL}" if eligible else "",
    }
    created = issue.get("createdAt") or issue.get("created_at")
    updated = issue.get("updatedAt") or issue.get("updated_at")
    named = next((issue[name] for name in _DEPENDENCIES if issue.get(name)), None)
    made |= {"created_at": created} if created else {}
    made |= {"eligible_at": updated} if eligible and updated else {}
    made |= {"depends_on": [named] if isinstance(named, str | int) else named} if named else {}
    return made


def _github_url(issue: Record) -> object:
    """Return the web address of an issue; for a REST record without one it is built from the repository."""
    url = issue.get("html_url") or issue.get("url") or ""
    if isinstance(url, str) and dedupe.key_of(url):
        return url
    match = _API_REPOSITORY.match(str(issue.get("repository_url") or url))
    return f"https://{match['host']}/{match['path']}/issues/{issue['number']}" if match else url


def _counted(name: str, value: object) -> bool:
    """Return whether a dump contains the number of comments instead of their text."""
    return name == "comments" and isinstance(value, int)


def _priority(labels: Iterable[str]) -> dict[str, str]:
    """Return the priority named by a label, if any."""
    for label in labels:
        if match := _PRIORITY.match(label.strip()):
            word = match.group(1).lower()
            return {"priority": _NUMBERED.get(word, word)}
    return {}


def _names(value: Any, *keys: str) -> Any:  # noqa: ANN401 - as it stands
    """Return the names in a list of texts and of objects with one of *keys*; any other value unchanged."""
    if isinstance(value, Mapping) and isinstance(value.get("nodes"), list):
        value = value["nodes"]
    if not isinstance(value, list):
        return value or []
    return [next((each[key] for key in keys if key in each), each) if isinstance(each, Mapping) else each
            for each in value]  # fmt: skip


def _person(value: object, *keys: str) -> object:
    if isinstance(value, Mapping):
        return next((value[key] for key in keys if value.get(key)), "")
    return value or ""


def _in(value: object, *names: str) -> object:
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _text(value: object) -> str:
    """Return the text of a description: a text, or the nested document format of Jira Cloud."""
    if isinstance(value, str):
        return value
    if not isinstance(value, Mapping):
        return ""
    if isinstance(value.get("text"), str):
        return str(value["text"])
    inner = value.get("content")
    parts = [_text(each) for each in inner] if isinstance(inner, list) else []
    block = value.get("type") in {"doc", "bulletList", "orderedList"}
    return ("\n" if block else "").join(parts)
