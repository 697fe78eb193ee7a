"""The HTTP door: governed tools, generation, the dashboard, signed messages, health and metrics.

Errors are RFC 9457 problems with `error` beside `detail`, for clients of older runbooks.
"""

from contextlib import suppress
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Header, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException as HttpError

from backlog_worker.domain import errors
from backlog_worker.domain.masking import masked
from backlog_worker.domain.roles import Caller
from backlog_worker.integrations.webhooks import BYTES_MAX
from backlog_worker.lifecycle import Kit, access, tools, triggers
from backlog_worker.telemetry import emit
from backlog_worker.web import metrics
from backlog_worker.web.limits import Limited
from backlog_worker.web.problem import Answer, problem, problems

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
DOCTOR = "`backlog-worker doctor` on the server names the cause"


class Execute(BaseModel):
    """One call of a tool; any other fields are parameters of the action."""

    model_config = ConfigDict(extra="allow")

    tool: str
    action: str
    env: str = ""
    dry_run: bool = False
    params: dict[str, Any] = {}


def made(kit: Kit, pepper: bytes) -> FastAPI:
    """Return the application for a kit; *pepper* keys the hashes of tokens."""
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
    app.add_exception_handler(Exception, _unexpected)
    app.include_router(routes)
    with suppress(errors.UnreachableError):  # a server may start while its database is unavailable
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


@routes.post("/v1/tools/execute", responses=problems(400, 401, 403, 404, 408, 409, 413, 422, 500, 503))
def execute(body: Execute, kit: OfProcess, caller: Asked) -> Any:  # noqa: ANN401 - each action has an answer of its own
    """Run one action of a governed tool under the scopes of the token."""
    given = {**(body.model_extra or {}), **body.params}
    return tools.execute(kit, caller, body.tool, body.action, given, env=body.env, dry_run=body.dry_run)


@routes.post("/v1/backlog/generate/weekly", responses=problems(401, 403, 404, 408, 409, 422, 500, 503))
def generate(kit: OfProcess, caller: Asked, env: str = "", week: str = "", dry_run: bool = False) -> Any:  # noqa: ANN401 - the same
    """File the entries that the platform digest of a week calls for."""
    given = {"week": week} if week else {}
    return tools.execute(kit, caller, "backlog_tool", "auto_generate_weekly", given, env=env, dry_run=dry_run)


@routes.get("/v1/backlog/dashboard", responses=problems(401, 403, 404, 408, 409, 422, 500, 503))
def dashboard(kit: OfProcess, caller: Asked, env: str = "") -> Any:  # noqa: ANN401 - the same
    """Return the backlog as one value."""
    return tools.execute(kit, caller, "backlog_tool", "dashboard", {}, env=env)


@routes.post("/v1/hooks/{pipeline}", status_code=202, responses=problems(400, 401, 404, 408, 409, 413, 422, 500, 503))
async def hook(pipeline: str, request: Request, kit: OfProcess) -> dict[str, Any]:
    """Accept a signed message for a pipeline; a repeated delivery is filed once.

    Parts that could not be filed are in `refused`; if none could, the response is an error.
    """
    body = await request.body()
    got = await run_in_threadpool(triggers.receive, kit, pipeline, body, dict(request.headers))
    return {
        "entries": [each.entry_id for each in got.filed],
        "new": sum(each.new for each in got.filed),
        "refused": [each.error for each in got.refused],
    }


@routes.get("/healthz")
def alive() -> dict[str, str]:
    """Return that this process is alive."""
    return {"status": "ok"}


@routes.get("/readyz", responses=problems(404, 500, 503))
def ready(kit: OfProcess) -> Any:  # noqa: ANN401 - a problem where it is not ready
    """Check now whether the database answers, a policy is in force, and the broker answers.

    Without a configured broker its state is `unknown`. Callers are unauthenticated, so no address is named.
    """
    access.remember(kit)
    with kit.store.read() as unit:
        policy = kit.book.policy(unit).stamp
    answer = kit.broker()
    if answer.asked and not answer.answers:
        emit("not_ready", error=f"the broker {answer.address} does not answer: {answer.error}")
        return problem(_AWAY, "the broker does not answer", hint=DOCTOR, code=errors.UnreachableError.__name__)
    return {"status": "ok", "policy": policy, "broker": "answers" if answer.asked else "unknown"}


@routes.get("/metrics", response_class=PlainTextResponse, responses=problems(500, 503))
def measured(kit: OfProcess) -> PlainTextResponse:
    """Return the metrics, computed from the database."""
    with suppress(errors.UnreachableError):
        access.remember(kit)
    return PlainTextResponse(masked(metrics.text(kit)), media_type="text/plain; version=0.0.4")


_AWAY = 503
_UNTOLD: tuple[tuple[type[errors.BacklogError], str], ...] = (
    (errors.FullError, "a disk of the server is full"),
    (errors.UnreachableError, "the database does not answer"),
    (errors.StoreError, "the database refuses this"),
)


async def _problem(_request: Request, error: Exception) -> JSONResponse:
    """Return the response for one of our errors; addresses and statements are logged only."""
    status, code = next((code for kind, code in STATUSES if isinstance(error, kind)), 500), type(error).__name__
    if isinstance(error, errors.UnreachableError | errors.StoreError):
        emit("not_ready", error=str(error))
        words = next(words for kind, words in _UNTOLD if isinstance(error, kind))
        return problem(status, words, hint=DOCTOR, code=code)
    return problem(status, str(error), hint=getattr(error, "hint", ""), code=code)


async def _unexpected(_request: Request, error: Exception) -> JSONResponse:
    emit("request_failed", error=f"{type(error).__name__}: {error}")
    return problem(500, "the server failed to process this request; see its log", code="InternalError")


async def _unreadable(_request: Request, error: Exception) -> JSONResponse:
    found = error.errors() if isinstance(error, RequestValidationError) else ()
    parts = [f"{'.'.join(str(part) for part in each['loc'][1:]) or 'the body'}: {each['msg']}" for each in found]
    return problem(422, "; ".join(parts) or str(error), code="InvalidInputError")


async def _plain(_request: Request, error: Exception) -> JSONResponse:
    status = error.status_code if isinstance(error, HttpError) else 500
    return problem(status, str(getattr(error, "detail", error)))
