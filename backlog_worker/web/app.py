"""The HTTP door: governed tools, generation, the dashboard, signed messages, health and metrics.

Errors are RFC 9457 problems with `error` beside `detail`, for clients of older runbooks.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Header, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import HTTPException, RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import BaseModel, ConfigDict
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException as HttpError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from backlog_worker.domain import errors
from backlog_worker.domain.masking import masked, masked_value
from backlog_worker.domain.roles import Caller
from backlog_worker.integrations.webhooks import BYTES_MAX
from backlog_worker.lifecycle import Kit, access, tools, triggers
from backlog_worker.web import metrics

STATUSES: tuple[tuple[type[errors.BacklogError], int], ...] = (
    (errors.UnauthenticatedError, 401),
    (errors.NotAllowedError, 403),
    (errors.NotFoundError, 404),
    (errors.ConflictError, 409),
    (errors.RefusedError, 409),
    (errors.InvalidInputError, 422),
    (errors.UsageError, 422),
    (errors.UnreachableError, 503),
    (errors.BusyError, 503),
)
RETRY_AFTER = "5"


class Answer(JSONResponse):
    """JSON without secrets."""

    def render(self, content: Any) -> bytes:  # noqa: ANN401 - any JSON
        """Return the body, masked."""
        return super().render(masked_value(content))


class Execute(BaseModel):
    """One call of a tool; whatever else stands beside these names are parameters of the action."""

    model_config = ConfigDict(extra="allow")

    tool: str
    action: str
    env: str = ""
    dry_run: bool = False
    params: dict[str, Any] = {}


def made(kit: Kit, pepper: bytes) -> FastAPI:
    """Make the app over a kit; *pepper* keys the hashes of tokens."""
    app = FastAPI(
        title="backlog_worker",
        docs_url=None,
        redoc_url=None,
        openapi_url="/v1/openapi.json",
        default_response_class=Answer,
    )
    app.state.kit, app.state.pepper = kit, pepper
    app.add_middleware(Limited, most=BYTES_MAX)
    app.add_exception_handler(errors.BacklogError, _problem)
    app.add_exception_handler(RequestValidationError, _unreadable)
    app.add_exception_handler(HttpError, _plain)
    app.include_router(routes)
    with suppress(errors.UnreachableError):  # a server may start while its database is away
        access.remember(kit)
    return app


def _kit(request: Request) -> Kit:
    kit: Kit = request.app.state.kit
    return kit


def _caller(request: Request, authorization: Annotated[str, Header()] = "") -> Caller:
    kind, _, token = authorization.partition(" ")
    if kind.lower() != "bearer" or not token:
        message = "this needs a token: Authorization: Bearer bw_..."
        raise errors.UnauthenticatedError(message, hint="backlog-worker token create NAME --role ROLE")
    return access.caller(request.app.state.kit, request.app.state.pepper, token.strip())


OfProcess = Annotated[Kit, Depends(_kit)]
Asked = Annotated[Caller, Depends(_caller)]
routes = APIRouter()


@routes.post("/v1/tools/execute")
def execute(body: Execute, kit: OfProcess, caller: Asked) -> Any:  # noqa: ANN401 - each action has an answer of its own
    """Run one action of a governed tool under the scopes of the token."""
    given = {**(body.model_extra or {}), **body.params}
    return tools.execute(kit, caller, body.tool, body.action, given, env=body.env, dry_run=body.dry_run)


@routes.post("/v1/backlog/generate/weekly")
def generate(kit: OfProcess, caller: Asked, env: str = "", week: str = "", dry_run: bool = False) -> Any:  # noqa: ANN401 - the same
    """File what the platform digest of a week asks for."""
    given = {"week": week} if week else {}
    return tools.execute(kit, caller, "backlog_tool", "auto_generate_weekly", given, env=env, dry_run=dry_run)


@routes.get("/v1/backlog/dashboard")
def dashboard(kit: OfProcess, caller: Asked, env: str = "") -> Any:  # noqa: ANN401 - the same
    """Return the backlog as one value."""
    return tools.execute(kit, caller, "backlog_tool", "dashboard", {}, env=env)


@routes.post("/v1/hooks/{pipeline}", status_code=202)
async def hook(pipeline: str, request: Request, kit: OfProcess) -> dict[str, Any]:
    """Take a signed message for a pipeline; a repeated delivery is filed once."""
    body = await request.body()
    filed = await run_in_threadpool(triggers.received, kit, pipeline, body, dict(request.headers))
    return {"entries": [each.entry_id for each in filed], "new": sum(each.new for each in filed)}


@routes.get("/healthz")
def alive() -> dict[str, str]:
    """Say that this process lives."""
    return {"status": "ok"}


@routes.get("/readyz")
def ready(kit: OfProcess) -> dict[str, str]:
    """Say whether the database answers, a policy is in force, and the broker answers, each asked now.

    A process that knows of no broker says that it is unknown.
    """
    access.remember(kit)
    with kit.store.read() as unit:
        policy = kit.book.policy(unit).stamp
    answer = kit.broker()
    if answer.asked and not answer.answers:
        message = f"the broker {answer.address} does not answer: {answer.error}"
        raise errors.UnreachableError(message, hint="start it, or correct BACKLOG_BROKER_URL")
    return {"status": "ok", "policy": policy, "broker": answer.words}


@routes.get("/metrics", response_class=PlainTextResponse)
def measured(kit: OfProcess) -> PlainTextResponse:
    """Return the metrics, computed from the database."""
    with suppress(errors.UnreachableError):
        access.remember(kit)
    return PlainTextResponse(masked(metrics.text(kit)), media_type="text/plain; version=0.0.4")


class Limited:
    """Refuse a body that is larger than *most* bytes, however it arrives."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self.app, self.most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, counting its bytes."""
        said = Headers(scope=scope).get("content-length", "0") if scope["type"] == "http" else "0"
        if said.isdigit() and int(said) > self.most:
            await _answer(413, f"the body has {said} bytes, at most {self.most} are taken")(scope, receive, send)
            return
        counted = 0

        async def _counted() -> Message:
            nonlocal counted
            message = await receive()
            counted += len(message.get("body", b""))
            if counted > self.most:
                raise HTTPException(413, f"the body has more than {self.most} bytes")
            return message

        await self.app(scope, _counted, send)


async def _problem(_request: Request, error: Exception) -> JSONResponse:
    status = next((code for kind, code in STATUSES if isinstance(error, kind)), 500)
    return _answer(status, str(error), hint=getattr(error, "hint", ""), code=type(error).__name__)


async def _unreadable(_request: Request, error: Exception) -> JSONResponse:
    found = error.errors() if isinstance(error, RequestValidationError) else ()
    parts = [f"{'.'.join(str(part) for part in each['loc'][1:]) or 'the body'}: {each['msg']}" for each in found]
    return _answer(422, "; ".join(parts) or str(error), code="InvalidInputError")


async def _plain(_request: Request, error: Exception) -> JSONResponse:
    status = error.status_code if isinstance(error, HttpError) else 500
    return _answer(status, str(getattr(error, "detail", error)))


def _answer(status: int, detail: str, *, hint: str = "", code: str = "") -> JSONResponse:
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


_AWAY, _UNKNOWN = 503, 401
_TITLES = {
    401: "Not authenticated",
    403: "Not allowed",
    404: "Not found",
    409: "Conflict",
    413: "Too large",
    422: "Invalid",
    503: "Unavailable",
}
