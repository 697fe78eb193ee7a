"""Commands sent to the server that BACKLOG_URL names."""

from collections.abc import Mapping
from typing import Any

import httpx2

from backlog_worker.domain import errors
from backlog_worker.domain.masking import cut
from backlog_worker.settings import Settings

SECONDS = 60.0
_ERRORS: Mapping[int, type[errors.BacklogError]] = {
    401: errors.UnauthenticatedError,
    403: errors.NotAllowedError,
    404: errors.NotFoundError,
    409: errors.ConflictError,
    413: errors.InvalidInputError,
    422: errors.InvalidInputError,
    503: errors.UnreachableError,
}


def execute(given: Settings, body: Mapping[str, Any]) -> Any:  # noqa: ANN401 - each action has an answer of its own
    """Run one action on the server; raises the action's errors, and UnreachableError if there is no answer."""
    if not given.token.get_secret_value():
        message = f"BACKLOG_URL is {given.url}, and BACKLOG_TOKEN is not set"
        raise errors.UnauthenticatedError(message, hint="backlog-worker token create NAME --role ROLE, on the server")
    url = f"{given.url.rstrip('/')}/v1/tools/execute"
    headers = {"authorization": f"Bearer {given.token.get_secret_value()}"}
    try:
        with httpx2.Client(timeout=SECONDS, trust_env=False, follow_redirects=False) as client:
            answer = client.post(url, json=dict(body), headers=headers)
    except httpx2.HTTPError as error:
        message = f"Cannot reach {given.url}: {error}"
        raise errors.UnreachableError(
            message, hint="start it with backlog-worker web, or correct BACKLOG_URL"
        ) from None
    try:
        value = answer.json()
    except ValueError:
        value = {"detail": cut(answer.text, 300)}
    if answer.is_success:
        return value
    problem = value if isinstance(value, dict) else {}
    kind = _ERRORS.get(answer.status_code, errors.BacklogError)
    message = f"HTTP {answer.status_code} from {url}: {problem.get('detail', '')}"
    raise kind(message, hint=str(problem.get("hint") or ""))
