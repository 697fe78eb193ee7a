"""Messages from elsewhere: the signature is checked over the raw bytes, in constant time, before anything is parsed.

GitHub's `X-Hub-Signature-256`; Standard Webhooks (https://www.standardwebhooks.com) with five minutes of tolerance;
GitLab's `X-Gitlab-Token` as it is.
"""

import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any

from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from backlog_worker.domain.errors import InvalidInputError, UnauthenticatedError
from backlog_worker.domain.trigger import Event

BYTES_MAX = 1_000_000
EVENTS = frozenset({"push", "pull_request"})


def verified(secret: str, body: bytes, headers: Mapping[str, str]) -> str:
    """Check that a message was signed with *secret*; returns the id of the delivery.

    Raises UnauthenticatedError for a wrong or missing signature. Headers are named in lower case.
    """
    if len(body) > BYTES_MAX:
        message = f"the message has {len(body)} bytes, at most {BYTES_MAX} are taken"
        raise InvalidInputError(message)
    given = headers.get("x-hub-signature-256", "")
    if given:
        wanted = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        if hmac.compare_digest(wanted.encode(), given.encode()):
            return headers.get("x-github-delivery") or hashlib.sha256(body).hexdigest()
    elif "webhook-signature" in headers:
        try:
            Webhook(secret.encode()).verify(body, dict(headers))
        except (WebhookVerificationError, ValueError):
            pass
        else:
            return headers["webhook-id"]
    elif "x-gitlab-token" in headers and hmac.compare_digest(headers["x-gitlab-token"].encode(), secret.encode()):
        return headers.get("x-gitlab-event-uuid") or hashlib.sha256(body).hexdigest()
    message = "the signature of the message is missing or wrong"
    raise UnauthenticatedError(message)


def event(body: bytes, headers: Mapping[str, str], delivery: str) -> Event:
    """Read a verified message; raises InvalidInputError where it is no JSON object."""
    try:
        payload = json.loads(body)
    except ValueError as error:
        message = f"the message is no JSON: {error}"
        raise InvalidInputError(message) from None
    if not isinstance(payload, dict):
        message = "the message is no JSON object"
        raise InvalidInputError(message)
    kind = headers.get("x-github-event") or _gitlab(headers.get("x-gitlab-event", ""))
    if kind not in EVENTS:
        return Event(type="webhook", delivery=delivery, payload=payload)
    pull = payload.get("pull_request") or payload.get("object_attributes") or {}
    if kind == "pull_request":
        branch = (pull.get("base") or {}).get("ref") or pull.get("target_branch") or ""
        action = str(payload.get("action") or pull.get("action") or "")
        return Event(type=kind, delivery=delivery, payload=payload, branch=str(branch), action=action)
    ref = str(payload.get("ref", ""))
    branch = "" if ref.startswith("refs/tags/") else ref.removeprefix("refs/heads/")
    return Event(type=kind, delivery=delivery, payload=payload, branch=branch, paths=tuple(_touched(payload)))


def _gitlab(name: str) -> str:
    return {"Push Hook": "push", "Merge Request Hook": "pull_request"}.get(name, "")


def _touched(payload: Mapping[str, Any]) -> list[str]:
    commits = [each for each in payload.get("commits") or [] if isinstance(each, dict)]
    lists = [each.get(name) or [] for each in commits for name in ("added", "modified", "removed")]
    return sorted({str(path) for listed in lists for path in listed})
