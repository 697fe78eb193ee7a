"""Tokens of people and service accounts for access over the network; only a keyed hash of a token is stored."""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from weakref import WeakKeyDictionary

from backlog_worker.domain.document import suggestion
from backlog_worker.domain.errors import InvalidInputError, NotFoundError, UnauthenticatedError, UnreachableError
from backlog_worker.domain.roles import ROLES, SCOPES, Caller
from backlog_worker.lifecycle import Kit, operation
from backlog_worker.store import AutoStore, Store
from backlog_worker.telemetry import emit

PREFIX = "bw"
SECRET_BYTES = 32  # 43 characters
QUIET = timedelta(minutes=1)
FRESH = timedelta(minutes=15)  # during an outage, tokens read within this time before it stay valid
_TOKEN = re.compile(r"bw_([A-Za-z0-9]{10,40})_([A-Za-z0-9_-]{43})")
_NAME = re.compile(r"[a-z][a-z0-9_.-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The properties of a new token: name, role, additional scopes and lifetime."""

    name: str
    role: str
    scopes: tuple[str, ...] = ()
    lasts: timedelta | None = None


def create(kit: Kit, pepper: bytes, asked: Asked, *, actor: str) -> str:
    """Create a token and return it; it cannot be read again. Raises InvalidInputError."""
    if not _NAME.fullmatch(asked.name):
        message = f"{asked.name!r} is not a valid account name; use lowercase letters, digits, and . _ -"
        raise InvalidInputError(message)
    _known(asked.role, list(ROLES), "role")
    for scope in asked.scopes:
        _known(scope, list(SCOPES), "scope")
    token_id, secret = kit.new_id("t").partition("_")[2], secrets.token_urlsafe(SECRET_BYTES)
    token = f"{PREFIX}_{token_id}_{secret}"
    with kit.store.begin(actor=actor) as unit:
        row = {
            "id": token_id,
            "env": kit.env,
            "name": asked.name,
            "role": asked.role,
            "hash": _hash(pepper, token),
            "created_by": actor,
            "scopes": sorted(ROLES[asked.role] | set(asked.scopes)),
            "expires_at": unit.now() + asked.lasts if asked.lasts else None,
        }
        unit.add_token(row)
        detail = {"name": asked.name, "role": asked.role}
        operation.record(kit, unit, "token.create", subject=token_id, detail=detail)
    return token


def revoke(kit: Kit, token_id: str, *, actor: str, reason: str) -> None:
    """Revoke a token; raises NotFoundError if it does not exist or is already revoked."""
    with kit.store.begin(actor=actor) as unit:
        if not unit.revoke_token(kit.env, token_id, actor):
            message = f"there is no active token {token_id}"
            raise NotFoundError(message, hint="backlog-worker token list")
        operation.record(kit, unit, "token.revoke", subject=token_id, reason=operation.reasoned(reason))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """The tokens of an environment as this process last read them, timed by its monotonic clock."""

    at: datetime
    tokens: dict[str, dict[str, Any]]


_READ: "WeakKeyDictionary[Store, _Read]" = WeakKeyDictionary()


def remember(kit: Kit) -> None:
    """Refresh the tokens held in memory, so that requests can still be authenticated while PostgreSQL is
    unavailable.
    """
    known, now = _READ.get(kit.store), datetime.now(UTC)
    if isinstance(kit.store, AutoStore) and (known is None or now - known.at > QUIET):
        with kit.store.read() as unit:
            tokens = {str(row["id"]): row for row in unit.tokens(kit.env)}
        _READ[kit.store] = _Read(at=now, tokens=tokens)


def caller(kit: Kit, pepper: bytes, token: str) -> Caller:
    """Return the caller that a token belongs to.

    Raises UnauthenticatedError if the token is unknown, expired, revoked, or of another environment. The comparison
    takes the same time in each case. The refusal of a known token is recorded. While PostgreSQL is unavailable, the
    tokens read shortly before are used; without any, UnreachableError is raised.
    """
    match = _TOKEN.fullmatch(token)
    found, now, away = _token(kit, match[1]) if match else (None, datetime.now(UTC), False)
    held = str(found["hash"]) if found else "0" * 64
    fits = hmac.compare_digest(held, _hash(pepper, token))
    if found is None or not fits:
        emit("denied", actor="unknown", action="authenticate", error="no such token")
        message = "the token is unknown here"
        raise UnauthenticatedError(message, hint="backlog-worker token create NAME --role ROLE")
    why = _over(kit, found, now)
    if why:
        if not away:
            _denied(kit, found, why)
        message = f"the token of {found['name']} {why}"
        raise UnauthenticatedError(message)
    if not away:
        with kit.store.begin(actor=str(found["name"])) as unit:
            unit.use_token(str(found["id"]))
    given = frozenset({str(found["role"])})
    return Caller(name=str(found["name"]), scopes=frozenset(found["scopes"]), env=kit.env, roles=given)


def _token(kit: Kit, token_id: str) -> tuple[dict[str, Any] | None, datetime, bool]:
    """Return the row of a token, the current time, and whether they come from memory because PostgreSQL is
    unavailable.
    """
    try:
        with kit.store.read() as unit:
            found, now = unit.token(token_id), unit.now()
        remember(kit)
    except UnreachableError:
        known = _READ.get(kit.store)
        store = kit.store
        since = store.away_since if isinstance(store, AutoStore) else None
        if known is None or since is None or since - known.at > FRESH or token_id not in known.tokens:
            raise
        return known.tokens[token_id], datetime.now(UTC), True
    return found, now, False


def _over(kit: Kit, found: dict[str, Any], now: datetime) -> str:
    if found["revoked_at"] is not None:
        return "was revoked"
    if found["expires_at"] is not None and found["expires_at"] < now:
        return "has expired"
    return "" if found["env"] == kit.env else f"belongs to environment {found['env']}"


def _denied(kit: Kit, found: dict[str, Any], why: str) -> None:
    """Record that a token was refused, at most once a minute, so that a client in a retry loop does not fill the
    table.
    """
    with kit.store.begin(actor=str(found["name"])) as unit:
        last = next(iter(unit.acts(kit.env, action="authenticate", most=1)), None)
        if last is None or unit.now() - last["at"] > QUIET or last["subject"] != found["id"]:
            detail = {"error": why}
            operation.record(kit, unit, "authenticate", subject=str(found["id"]), result="denied", detail=detail)
    emit("denied", actor=found["name"], action="authenticate", error=why)


def _hash(pepper: bytes, token: str) -> str:
    return hmac.new(pepper, token.encode(), hashlib.sha256).hexdigest()


def _known(word: str, words: list[str], kind: str) -> None:
    if word not in words:
        message = f"there is no {kind} {word!r}"
        raise InvalidInputError(message, hint=suggestion(word, words) or f"one of: {', '.join(words)}")
