"""tool, generate, alert, token, role, web: governed jobs, and access to them over the network."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from backlog_worker.cli.access import DryRun, Reason, kit
from backlog_worker.cli.output import (
    FINDINGS,
    OPTIONS,
    as_json,
    following,
    json_text,
    say,
    shown,
    table,
    talk,
    verbatim,
)
from backlog_worker.domain.errors import MissingExtraError, UsageError
from backlog_worker.domain.masking import masked_value

if TYPE_CHECKING:
    from backlog_worker.settings import Settings

tool = typer.Typer(help="Tools: governed jobs that can be called by name.", no_args_is_help=True)
generate = typer.Typer(help="Generate entries from a digest.", no_args_is_help=True)
alert = typer.Typer(help="Alerts and their rules.", no_args_is_help=True)
token = typer.Typer(help="Tokens for access over the network.", no_args_is_help=True)
role = typer.Typer(help="Roles and their scopes.", no_args_is_help=True)
LOOPBACK = "127.0.0.1"


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for name, commands in (
        ("tool", tool),
        ("generate", generate),
        ("alert", alert),
        ("token", token),
        ("role", role),
    ):
        app.add_typer(commands, name=name)
    app.command("web")(web)


def run_action(name: str, action: str, params: dict[str, Any], *, dry_run: bool) -> None:
    """Run one action here, or on the server that BACKLOG_URL names, and print its result."""
    from backlog_worker import settings

    given = settings.load()
    env = str(params.pop("env", ""))
    body = {**params, "tool": name, "action": action, "env": env, "dry_run": dry_run}
    if given.url:
        from backlog_worker.cli import remote

        result = remote.execute(given, body)
    else:
        result = _here(given, name, action, params, env=env, dry_run=dry_run)
    if OPTIONS.as_json:
        as_json("backlog-worker/result", result)
    else:
        verbatim(json_text(masked_value(result), indent=1))
    if isinstance(result, dict) and result.get("broken"):
        raise SystemExit(FINDINGS)


@tool.command("list")
def list_tools() -> None:
    """List all actions with their scopes, their parameters and the effect of a dry run."""
    from backlog_worker.lifecycle import tools

    data = [
        {
            "tool": each.tool,
            "action": each.action,
            "scope": each.scope,
            "parameters": {name: field.description for name, field in each.params.model_fields.items()},
            "dry_run": each.dry,
            "does": each.words,
        }
        for each in tools.TOOLS
    ]
    rows = [
        (f"{each['tool']}.{each['action']}", each["scope"], list(each["parameters"]), each["does"]) for each in data
    ]
    shown("backlog-worker/tools", data, lambda: table("", ("action", "scope", "parameters", "does"), rows))


@tool.command("run")
def run_tool(
    name: Annotated[str, typer.Option("--tool", help="The tool, such as backlog_tool.")],
    action: Annotated[str, typer.Option("--action", help="The action, such as cleanup.")],
    params: Annotated[
        str, typer.Option("--params-json", help="The parameters as a JSON object; it may contain env.")
    ] = "{}",
    dry_run: DryRun = False,
) -> None:
    """Run one action here or, if BACKLOG_URL is set, on that server with the scopes of BACKLOG_TOKEN."""
    run_action(name, action, _object(params), dry_run=dry_run)


@generate.command("weekly")
def weekly(
    week: Annotated[str, typer.Option("--week", help="The week, such as 2026-47; default: the newest digest.")] = "",
    dry_run: DryRun = False,
) -> None:
    """File the entries that the platform digest asks for; a second run updates them and makes no duplicates."""
    run_action("backlog_tool", "auto_generate_weekly", {"week": week} if week else {}, dry_run=dry_run)


@generate.command("daily")
def daily(
    date: Annotated[str, typer.Option("--date", help="The day, such as 2026-11-24; default: the newest digest.")] = "",
    dry_run: DryRun = False,
) -> None:
    """File the entries that the risk digest asks for, if the policy enables it."""
    run_action("backlog_tool", "auto_generate_daily", {"date": date} if date else {}, dry_run=dry_run)


@alert.command("list")
def list_alerts() -> None:
    """List alerts, newest first, and who acknowledged them."""
    with_kit, _ = kit()
    with with_kit.store.read() as unit:
        found = unit.alerts(with_kit.env, 100)
    rows = [(row["rule"], _state(row), row["since"], row["acked_by"] or "-", row["words"]) for row in found]
    shown("backlog-worker/alerts", found, lambda: table("", ("rule", "state", "since", "by", "why"), rows))


@alert.command("test")
def rehearse(
    rule: Annotated[str, typer.Argument(help="The id of a rule; default: all rules.")] = "",
    send: Annotated[
        bool, typer.Option("--send", help="Send a test message to everybody whom the rule notifies.")
    ] = False,
) -> None:
    """Show for each rule whether it holds now and who would be notified; nothing is stored."""
    from backlog_worker.lifecycle import alerts

    with_kit, _ = kit()
    if send and not rule:
        message = "--send needs the id of a rule"
        raise UsageError(message)
    found = alerts.rehearse(with_kit, rule)
    said = alerts.told(with_kit, rule) if send else {}
    rows = [
        (each["rule"], "holds" if each["holds"] else "", list(each["routes"].values()), each["words"]) for each in found
    ]

    def _human() -> None:
        table("", ("rule", "now", "told by", "why"), rows)
        for name, came in said.items():
            say(f"{name}: {came}")

    shown("backlog-worker/alert-tests", {"rules": found, "told": said}, _human)
    if any(came.startswith("failed") for came in said.values()):
        raise SystemExit(1)


@alert.command("ack")
def acknowledge(
    name: Annotated[str, typer.Argument(help="The rule or the id of an open alert.")], reason: Reason
) -> None:
    """Acknowledge an alert."""
    from backlog_worker.lifecycle import alerts

    with_kit, given = kit()
    alerts.acknowledge(with_kit, name, actor=given.who, reason=reason)
    say(f"{name} is acknowledged by {given.who}")


@token.command("create")
def create_token(
    name: Annotated[str, typer.Argument(help="The name of a person or a service account, such as scheduler.")],
    role_name: Annotated[
        str, typer.Option("--role", help="The role: viewer, operator, reviewer, governor, admin or scheduler.")
    ],
    scope: Annotated[list[str] | None, typer.Option("--scope", help="An additional scope; may be repeated.")] = None,
    expires: Annotated[
        str, typer.Option("--expires", help="The lifetime, such as 90d; default: the token never expires.")
    ] = "",
) -> None:
    """Create a token and print it once; only a keyed hash is stored."""
    from backlog_worker import wiring
    from backlog_worker.domain import duration
    from backlog_worker.lifecycle import access

    with_kit, given = kit()
    try:
        lasts = duration.parsed(expires) if expires else None
    except ValueError as error:
        raise UsageError(str(error)) from None
    asked = access.Asked(name=name, role=role_name, scopes=tuple(scope or ()), lasts=lasts)
    made = access.create(with_kit, wiring.pepper_of(given), asked, actor=given.who)
    shown("backlog-worker/token", {"name": name, "role": role_name, "token": made}, lambda: say(made))
    following("store it as a secret: it is not shown again")


@token.command("list")
def list_tokens() -> None:
    """List tokens, without their secrets."""
    with_kit, _ = kit()
    with with_kit.store.read() as unit:
        found = [{name: each for name, each in row.items() if name != "hash"} for row in unit.tokens(with_kit.env)]
    rows = [
        (row["id"], row["name"], row["role"], row["expires_at"], row["used_at"], "revoked" if row["revoked_at"] else "")
        for row in found
    ]
    names = ("id", "name", "role", "expires", "last used", "")
    shown("backlog-worker/tokens", found, lambda: table("", names, rows))


@token.command("revoke")
def revoke_token(token_id: Annotated[str, typer.Argument(help="The id of a token.")], reason: Reason) -> None:
    """Revoke a token permanently."""
    from backlog_worker.lifecycle import access

    with_kit, given = kit()
    access.revoke(with_kit, token_id, actor=given.who, reason=reason)
    say(f"{token_id} is revoked")


@role.command("list")
def list_roles() -> None:
    """List roles and their scopes."""
    from backlog_worker.domain.roles import ROLES, SCOPES

    data = {"roles": {name: sorted(scopes) for name, scopes in ROLES.items()}, "scopes": dict(SCOPES)}
    rows = [(name, ", ".join(sorted(scopes))) for name, scopes in ROLES.items()]
    shown("backlog-worker/roles", data, lambda: table("", ("role", "scopes"), rows))


def web(
    host: Annotated[str, typer.Option("--host", help="The address to listen on.")] = LOOPBACK,
    port: Annotated[int, typer.Option("--port", min=0, max=65535)] = 8420,
) -> None:
    """Serve the HTTP API until Ctrl-C; every call but health and metrics needs a token."""
    from importlib.util import find_spec

    from backlog_worker import installed, wiring

    if find_spec("uvicorn") is None or find_spec("fastapi") is None:
        message = "the HTTP API needs fastapi and uvicorn"
        raise MissingExtraError(message, hint=installed.command())
    from backlog_worker.executors import isolation

    isolation.shut()

    from backlog_worker import telemetry
    from backlog_worker.web.app import made
    from backlog_worker.web.limits import serve

    with_kit, given = kit()
    telemetry.configure(level=given.log_level, as_json=given.log_json)
    if host != LOOPBACK:
        talk(f"listening on {host}: put TLS in front of it, and keep /metrics and /healthz inside")
    talk(f"http://{host}:{port}/v1/openapi.json")
    serve(made(with_kit, wiring.pepper_of(given)), host, port)


def _here(given: "Settings", name: str, action: str, params: dict[str, Any], *, env: str, dry_run: bool) -> Any:  # noqa: ANN401 - each action has a result of its own
    from backlog_worker.domain.roles import everything
    from backlog_worker.lifecycle import tools

    tools.wanted(name, action)
    with_kit, _ = kit()
    return tools.execute(with_kit, everything(given.who), name, action, params, env=env, dry_run=dry_run)


def _object(text: str) -> dict[str, Any]:
    from backlog_worker.domain import wire

    value = wire.parsed(text, "--params-json")
    if not isinstance(value, dict):
        message = "--params-json is not a JSON object"
        raise UsageError(message, hint="such as --params-json '{\"retention_days\": 180}'")
    return value


def _state(row: dict[str, Any]) -> str:
    if row["resolved_at"] is not None:
        return "over"
    return "fired" if row["fired_at"] is not None else "waiting"
