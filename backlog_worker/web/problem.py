"""How an error is answered: a problem of RFC 9457."""

from collections.abc import Mapping
from typing import Any

from fastapi.responses import JSONResponse

from backlog_worker.domain.masking import masked_value

RETRY_AFTER = "5"
_AWAY, _UNKNOWN = 503, 401
_TITLES = {
    401: "Not authenticated",
    403: "Not allowed",
    404: "Not found",
    408: "Too slow",
    409: "Conflict",
    413: "Too large",
    422: "Invalid",
    503: "Unavailable",
}


class Answer(JSONResponse):
    """JSON without secrets."""

    def render(self, content: Any) -> bytes:  # noqa: ANN401 - any JSON
        """Return the body, masked."""
        return super().render(masked_value(content))


def problem(status: int, detail: str, *, hint: str = "", code: str = "") -> JSONResponse:
    """Return a problem of RFC 9457, with `error` beside `detail` for clients of older runbooks."""
    body: Mapping[str, Any] = {
        "type": "about:blank",
        "title": _TITLES.get(status, "Error"),
        "status": status,
        "detail": detail,
        "code": code,
        "error": detail,
        "hint": hint,
    }
    headers = {"retry-after": RETRY_AFTER} if status == _AWAY else {}
    if status == _UNKNOWN:
        headers["www-authenticate"] = "Bearer"
    return Answer(body, status_code=status, headers=headers, media_type="application/problem+json")
