"""Placeholders in the texts of jobs and agents: one that nothing can fill is reported when the file is loaded."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Protocol

from backlog_worker.domain import template
from backlog_worker.domain.agent import Agent
from backlog_worker.domain.document import Path, suggestion
from backlog_worker.domain.errors import Finding
from backlog_worker.domain.include import Placed
from backlog_worker.domain.template import ROOTS, Hole

# The fields of an entry and of a run that texts may read.
ENTRY = (
    *("id", "env", "title", "url", "source", "external_ref", "service", "category", "team", "owner", "labels"),
    *("priority", "signals", "pipeline", "provenance", "constraints", "attempt", "created_at"),
)
RUN = ("id", "attempt")


class Made(Protocol):
    """A job with its agents."""

    placed: Placed
    agent: Agent | None
    fallback: Agent | None


def unfilled(made: Made, accepts: Mapping[str, Any] | None) -> Iterator[Finding]:
    """Yield findings for unfillable placeholders; one that only undeclared input could fill is a warning."""
    placed, job = made.placed, made.placed.file
    agents = [(("agent",), made.agent), (("fallback", "agent"), made.fallback)]
    texts: list[tuple[Path, str, str]] = [(("task",), job.task, ""), (("prompt",), job.prompt, "")]
    texts += [(path, text, "") for path, text in _texts(("inputs",), job.inputs)]
    texts += [(("env", name), text, "") for name, text in job.env.items()]
    texts += [(path, each.prompt, f'the text of agent "{each.name}": ') for path, each in agents if each]
    for path, text, head in texts:
        given = _given(made, "task" if template.secrets_in(text) else path[0])
        for hole in template.holes(text, placed.names):
            if said := _nothing(hole, given, accepts):
                words, certain = said
                finding = placed.finding(path, "13", f"{head}{{{{ {hole.text} }}}}: {words}")
                yield finding if certain else replace(finding, level="warning")


def _texts(path: Path, value: Any) -> Iterator[tuple[Path, str]]:  # noqa: ANN401 - free JSON
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping | list):
        for key, each in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _texts((*path, key), each)


def _given(made: Made, key: str | int) -> dict[str, frozenset[str]]:
    """Return the names that a text of a job finds under `inputs`, `params` and `env`."""
    placed, job = made.placed, made.placed.file
    env = {
        *placed.env,
        *job.env,
        *(made.agent.env if made.agent else {}),
        *(made.fallback.env if made.fallback else {}),
    }
    inputs = frozenset() if key in {"inputs", "env"} else frozenset(job.inputs)
    return {
        "inputs": inputs,
        "params": frozenset(placed.params),
        "env": frozenset() if key == "env" else frozenset(env),
    }


def _nothing(
    hole: Hole, given: Mapping[str, frozenset[str]], accepts: Mapping[str, Any] | None
) -> tuple[str, bool] | None:
    """Return why nothing fills a placeholder, and whether that is certain."""
    path = hole.path
    if not path:
        return None
    root, name = str(path[0]), str(path[1]) if len(path) > 1 else ""
    local = sorted({each for names in given.values() for each in names})
    if hole.bare and root not in ROOTS:
        return None if root in local else _of_input(root, accepts, local)
    if name and root in {"context", "input"}:
        return _of_input(name, accepts, [])
    fixed: Mapping[str, Any] = {"entry": ENTRY, "run": RUN, "inputs": given["inputs"], "env": given["env"]}
    if name and root in fixed and name not in fixed[root]:
        near = suggestion(name, list(fixed[root])) or f"there is {', '.join(sorted(fixed[root])) or 'none'}"
        return f'there is no "{name}" in {root}; {near}', True
    return None


def _of_input(name: str, accepts: Mapping[str, Any] | None, others: list[str]) -> tuple[str, bool] | None:
    """Return why the input of an entry may lack a name, and whether that is certain; None if it is declared."""
    contract = accepts or {}
    known = list(contract.get("properties") or {})
    if name in known or name in (contract.get("required") or ()):
        return None
    near = suggestion(name, [*known, *others])
    if contract.get("additionalProperties") is False:
        return f'nothing fills it; `accepts` lets no "{name}" in{f"; {near}" if near else ""}', True
    if others and near:
        return f"nothing here fills it, unless the input of the entry has it; {near}", False
    return "only the input of the entry can fill it; name it under `accepts.properties`", False
