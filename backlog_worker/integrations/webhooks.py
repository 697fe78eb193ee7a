"""Signed messages from other systems: the signature is checked over the raw bytes, in constant time, before parsing.

Supported are GitHub's `X-Hub-Signature-256`; Standard Webhooks (https://www.standardwebhooks.com) with five minutes of
tolerance and secrets in their issued form (`whsec_` and base64); and GitLab's `X-Gitlab-Token`.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from standardwebhooks import Webhook
from standardwebhooks.webhooks import EmptyWebhookSecretError, WebhookVerificationError

from backlog_worker.domain import wire
from backlog_worker.domain.errors import InvalidInputError, UnauthenticatedError
from backlog_worker.domain.trigger import Event

BYTES_MAX = 1_000_000
EVENTS = frozenset({"push", "pull_request"})
ISSUED = "whsec_"  # the prefix of Standard Webhooks secrets; base64 follows


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A verified message: its id, the digest of its bytes, and whether the signature covers the id."""

    id: str
    sha256: str
    id_signed: bool


def verify(secret: str, body: bytes, headers: Mapping[str, str]) -> Delivery:
    """Check that a message was signed with *secret*.

    Raises UnauthenticatedError if the signature is wrong or missing. Header names are in lower case.
    """
    if len(body) > BYTES_MAX:
        message = f"the message has {len(body)} bytes; at most {BYTES_MAX} are accepted"
        raise InvalidInputError(message)
    sha256 = hashlib.sha256(body).hexdigest()
    if given := headers.get("x-hub-signature-256", ""):
        wanted = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        if hmac.compare_digest(wanted.encode(), given.encode()):
            return Delivery(id=headers.get("x-github-delivery") or sha256, sha256=sha256, id_signed=False)
    elif "webhook-signature" in headers:
        if _standard(secret, body, headers):
            return Delivery(id=headers["webhook-id"], sha256=sha256, id_signed=True)
    elif "x-gitlab-token" in headers and hmac.compare_digest(headers["x-gitlab-token"].encode(), secret.encode()):
        return Delivery(id=headers.get("x-gitlab-event-uuid") or sha256, sha256=sha256, id_signed=False)
    message = "the signature of the message is missing or wrong"
    raise UnauthenticatedError(message)


def _standard(secret: str, body: bytes, headers: Mapping[str, str]) -> bool:
    """Return whether a Standard Webhooks signature is valid and at most five minutes old."""
    try:
        webhook = Webhook(secret if secret.startswith(ISSUED) else secret.encode())
    except (ValueError, RuntimeError, EmptyWebhookSecretError):
        message = f"a webhook secret begins with {ISSUED} but is not base64"
        raise UnauthenticatedError(message, hint="store it in the form that its sender shows") from None
    try:
        webhook.verify(body, dict(headers), json_parse=False)
    except (WebhookVerificationError, ValueError):  # an undecodable header or body raises ValueError
        return False
    return True


def event(body: bytes, headers: Mapping[str, str], delivery: str) -> Event:
    """Return the event of a verified message; raises InvalidInputError if it is not a JSON object."""
    payload = wire.parsed(body, "the message")
    if not isinstance(payload, dict):
        message = "the message is not a JSON object"
        raise InvalidInputError(message)
    kind = headers.get("x-github-event") or _gitlab(headers.get("x-gitlab-event", ""))
    if kind not in EVENTS:
        return Event(type="webhook", delivery=delivery, payload=payload)
    pull = _part(payload, "pull_request") or _part(payload, "object_attributes")
    if kind == "pull_request":
        branch = _part(pull, "base").get("ref") or pull.get("target_branch") or ""
        action = str(payload.get("action") or pull.get("action") or "")
        return Event(type=kind, delivery=delivery, payload=payload, branch=str(branch), action=action)
    ref = str(payload.get("ref", ""))
    branch = "" if ref.startswith("refs/tags/") else ref.removeprefix("refs/heads/")
    return Event(type=kind, delivery=delivery, payload=payload, branch=branch, paths=tuple(_touched(payload)))


def _gitlab(name: str) -> str:
    return {"Push Hook": "push", "Merge Request Hook": "pull_request"}.get(name, "")


def _part(payload: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = payload.get(name)
    return found if isinstance(found, dict) else {}


def _list(payload: Mapping[str, Any], name: str) -> list[Any]:
    found = payload.get(name)
    return found if isinstance(found, list) else []


def _touched(payload: Mapping[str, Any]) -> list[str]:
    commits = [each for each in _list(payload, "commits") if isinstance(each, dict)]
    lists = [_list(each, name) for each in commits for name in ("added", "modified", "removed")]
    return sorted({str(path) for listed in lists for path in listed})
