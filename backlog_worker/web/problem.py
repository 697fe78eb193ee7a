"""Error responses: problems of RFC 9457."""

from typing import Any

from fastapi.responses import JSONResponse
from pydantic import BaseModel

from backlog_worker.domain.masking import masked_value

RETRY_AFTER = "5"
_AWAY, _UNKNOWN = 503, 401
_TITLES = {
    400: "Unreadable",
    401: "Not authenticated",
    403: "Not allowed",
    404: "Not found",
    408: "Too slow",
    409: "Conflict",
    413: "Too large",
    422: "Invalid",
    500: "Failed",
    503: "Unavailable",
}


class Problem(BaseModel):
    """What an error is answered with."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    error: str
    hint: str


class Answer(JSONResponse):
    """A JSON response without secrets."""

    def render(self, content: Any) -> bytes:  # noqa: ANN401 - any JSON
        """Return the body, masked."""
        return super().render(masked_value(content))


def problem(status: int, detail: str, *, hint: str = "", code: str = "") -> JSONResponse:
    """Return a problem of RFC 9457, with `error` beside `detail` for clients of older runbooks."""
    title = _TITLES.get(status, "Error")
    body = Problem(
        type="about:blank", title=title, status=status, detail=detail, code=code, error=detail, hint=hint
    ).model_dump()
    headers = {"retry-after": RETRY_AFTER} if status == _AWAY else {}
    if status == _UNKNOWN:
        headers["www-authenticate"] = "Bearer"
    return Answer(body, status_code=status, headers=headers, media_type="application/problem+json")


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the answers of a route that are errors, as its OpenAPI document has them."""
    content = {"application/problem+json": {"schema": Problem.model_json_schema()}}
    return {status: {"description": _TITLES[status], "content": content} for status in statuses}
