"""Permissions: scopes and the roles that hold them; everything not named here is refused."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from backlog_worker.domain.errors import NotAllowedError

SCOPES: Mapping[str, str] = {
    "entries.read": "see entries, runs, reviews and the dashboard",
    "entries.write": "file entries, edit, hold, release, comment",
    "runs.operate": "start, cancel, requeue, resume",
    "reviews.decide": "answer reviews and dead letters",
    "payload.read": "see inputs, outputs and logs",
    "policy.govern": "change policies",
    "audit.read": "verify and export history and evidence",
    "tools.backlog.admin": "generate and clean up the backlog",
    "tools.pressure.write": "write platform digests",
    "tools.risk.write": "write risk snapshots and digests",
    "admin": "tokens, redaction, legal holds",
}
_VIEWER = frozenset({"entries.read"})
_OPERATOR = _VIEWER | {"entries.write", "runs.operate"}
_REVIEWER = _VIEWER | {"reviews.decide", "payload.read"}
_GOVERNOR = _OPERATOR | _REVIEWER | {"policy.govern", "audit.read", "tools.backlog.admin"}
ROLES: Mapping[str, frozenset[str]] = {
    "viewer": _VIEWER,
    "operator": _OPERATOR,
    "reviewer": _REVIEWER,
    "governor": _GOVERNOR,
    "admin": frozenset(SCOPES),
    "scheduler": frozenset(
        {"entries.read", "audit.read", "tools.backlog.admin", "tools.pressure.write", "tools.risk.write"}
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The caller: its name for the history, its scopes, its environment ("" means all), and its role."""

    name: str
    scopes: frozenset[str]
    env: str = ""
    roles: frozenset[str] = frozenset()

    def must(self, scope: str, what: str, *, env: str = "") -> None:
        """Check that the caller holds *scope* and may work in *env*; raises NotAllowedError."""
        if self.env and env not in {"", self.env}:
            message = f"{self.name} may not work in environment {env}: its token belongs to {self.env}"
            raise NotAllowedError(message)
        if scope not in self.scopes:
            message = f"{self.name} may not {what}: it has no scope {scope}"
            roles = ", ".join(name for name, scopes in ROLES.items() if scope in scopes)
            raise NotAllowedError(message, hint=f"ask for a token of a role that has it: {roles}")


def holds(caller: Caller, role: str, people: Mapping[str, Sequence[str]]) -> bool:
    """Return whether a caller has a role: by token, by name in the policy, or by scopes if the policy names nobody.

    A role that the policy names belongs only to its people; any other built-in role belongs to all callers with its
    scopes.
    """
    if role in caller.roles:
        return True
    if role in people:
        return caller.name in people[role]
    return role in ROLES and ROLES[role] <= caller.scopes


def holders(role: str, people: Mapping[str, Sequence[str]]) -> str:
    """Return a text that says who has a role."""
    if role in people:
        return ", ".join(people[role])
    return f"any token of role {role}, and people at the terminal" if role in ROLES else "nobody: the policy names none"


def must_answer(caller: Caller, wanted: Sequence[str], people: Mapping[str, Sequence[str]], *, env: str) -> None:
    """Check that a caller has one of the roles *wanted* and may answer; raises NotAllowedError."""
    caller.must("reviews.decide", "answer a review", env=env)
    if not wanted or any(holds(caller, role, people) for role in wanted):
        return
    who = "; ".join(f"{role}: {holders(role, people)}" for role in wanted)
    message = f"{caller.name} may not answer this review: it needs the role {' or '.join(wanted)} ({who})"
    raise NotAllowedError(message, hint=f"`roles` of the policy names who has it, such as {{ {wanted[0]}: [ana, li] }}")


def everything(name: str) -> Caller:
    """Return the caller for a person at this machine's terminal, who has access to the database anyway."""
    return Caller(name=name, scopes=frozenset(SCOPES))
