"""agent: the agents of the project; budget: money spent and left."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from backlog_worker.cli.access import kit
from backlog_worker.cli.named import read_text
from backlog_worker.cli.output import FINDINGS, following, money, plain, say, shown, table, talk
from backlog_worker.domain.budget import Scope
from backlog_worker.domain.errors import InvalidFileError, NotFoundError

if TYPE_CHECKING:
    from backlog_worker.domain.agent import Agent
    from backlog_worker.domain.errors import Finding

agent = typer.Typer(help="Agents of the project.", no_args_is_help=True)
budget = typer.Typer(help="Money spent and reserved.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(agent, name="agent")
    app.add_typer(budget, name="budget")


@agent.command("list")
def list_agents() -> None:
    """List the agents of the project and the executor that each uses here, including those with errors."""
    agents, wrong = _agents()
    rows = [
        (each.name, each.executor, _driver(each), each.model, each.preset or " ".join(each.command)) for each in agents
    ]
    data = [{"name": row[0], "executor": row[1], "here": row[2], "model": row[3]} for row in rows]
    columns = ("agent", "executor", "here", "model", "command")
    shown("backlog-worker/agents", data, lambda: table("", columns, rows))
    if wrong:
        talk(*(str(each) for each in wrong))
        raise SystemExit(FINDINGS)


@agent.command("check")
def check() -> None:
    """Check the agents: their files, their executors here, and whether the price of each model is known."""
    from backlog_worker.domain.budget import Usage, price

    with_kit, _ = kit()
    with with_kit.store.read() as unit:
        prices = with_kit.book.policy(unit).prices
    agents, wrong = _agents()
    findings = [(f"{each.file}:{each.line}:{each.column}", each.text, each.hint) for each in wrong]
    for each in agents:
        if not _driver(each):
            findings.append(
                (each.name, "no executor on this machine can run it", "install an agent, or set `executor`")
            )
        known = each.model == "default" or price(Usage(model=each.model, input_tokens=1), prices) is not None
        if not known:
            findings.append((each.name, f"the price of {each.model} is unknown", "set `prices` in the policy"))
    shown("backlog-worker/agent-check", findings, lambda: table("", ("agent", "found", "repair"), findings))
    if findings:
        raise SystemExit(FINDINGS)
    following("backlog-worker agent try NAME")


@agent.command("try")
def attempt(
    name: Annotated[str, typer.Argument(help="The name of an agent.")],
    task: Annotated[str, typer.Option("--task", help="The task.")] = "Answer with the word ready.",
) -> None:
    """Run one small task with an agent on this machine; it may cost money."""
    from backlog_worker import settings, telemetry, wiring
    from backlog_worker.domain import pipeline
    from backlog_worker.lifecycle.solo import perform_one

    telemetry.configure(level="ERROR")
    given = settings.load()
    path = given.folder / "agents" / f"{name}.md"
    if not path.exists():
        message = f"there is no agent {name}"
        raise NotFoundError(message, hint=f"known: {', '.join(each.name for each in _agents()[0]) or 'none'}")
    text = read_text(path)
    body = f"name: try\njobs:\n  - id: it\n    agent: {name}\n    prompt: '{{{{ context.task }}}}'\n"
    found = pipeline.load(body, contract={f"agents/{name}.md": text}.__getitem__)
    solo = wiring.solo(given)
    with solo.store.read() as unit:
        policy = solo.book.policy(unit)
    outputs = given.folder / "state" / "tried"
    status, why = perform_one(solo, found, policy, "it", {"task": task}, outputs)
    say(f"{name}  {status}  {plain(why)}", (outputs / "it.json").read_text(encoding="utf-8").rstrip())
    if status != "completed":
        raise SystemExit(1)


@budget.command("list")
def list_budgets(
    by: Annotated[
        str, typer.Option("--by", help="Group by pipeline, team, agent, model, job_id, entry_id or run_id.")
    ] = "pipeline",
    days: Annotated[float, typer.Option("--days", min=0.01, help="The number of past days to include.")] = 1.0,
) -> None:
    """List the budgets, and the money spent by pipeline, team, agent, model, job, entry or run."""
    with_kit, _ = kit()
    with with_kit.store.read() as unit:
        policy = with_kit.book.policy(unit)
        held = sum(row["reserved_usd"] for row in unit.reserved(with_kit.env))
        day, unknown_today = unit.tally(with_kit.env, Scope.DAY)
        costs = unit.costs(with_kit.env, by, days)
    rules = [(rule.id, rule.scope, rule.usd, rule.on_exceeded) for rule in policy.budgets]
    data = {
        "budgets": rules,
        "spent_today": day if day or not unknown_today else None,
        "without_price_today": unknown_today,
        "reserved": held,
        "costs": costs,
    }

    def _human() -> None:
        table("", ("budget", "scope", "usd", "beyond it"), rules)
        say(f"today {money(data['spent_today'], unknown_today)} USD spent, {held:.2f} reserved")
        columns = (by, "calls", "usd", "tokens in", "tokens out", "saved usd", "without a price")
        rows = [(*_prices(each), each["saved_usd"], each["unknown"]) for each in costs]
        table(f"last {days:g} days", columns, rows)
        unknown = sum(c["unknown"] or 0 for c in costs)
        if unknown:
            talk(f"{unknown} calls have no known price: budgets hold work until `prices` of the policy has one")

    shown("backlog-worker/budgets", data, _human)


def _agents() -> "tuple[list[Agent], list[Finding]]":
    """Return the valid agents of the project, and the errors of the others."""
    from backlog_worker import settings
    from backlog_worker.domain import agent as agents
    from backlog_worker.domain.errors import Finding
    from backlog_worker.integrations import project

    found: list[Agent] = []
    findings: list[Finding] = []
    for path in sorted((settings.load().folder / "agents").glob("*.md")):
        try:
            found.append(agents.load(project.text_of(path), name=path.stem, file=str(path)))
        except InvalidFileError as error:
            findings += error.findings
        except (OSError, UnicodeDecodeError) as error:
            findings.append(Finding(code="BW520", text=project.fault(error), file=str(path)))
    return found, findings


def _driver(one: "Agent") -> str:
    from backlog_worker import settings, wiring
    from backlog_worker.executors.choice import AgentExecutor
    from backlog_worker.executors.command import CommandExecutor

    given = settings.load()
    chooser = wiring.executors_of(given, CommandExecutor(project=Path(), workspaces=Path()))["agent"]
    name = chooser.chosen(one) if isinstance(chooser, AgentExecutor) else ""
    return name if name in {"acp", "command", "openai", "python", "template", "replay"} else ""


def _prices(cost: dict[str, Any]) -> tuple[object, ...]:
    tokens = (cost["input_tokens"], cost["output_tokens"])
    return (cost["name"], cost["calls"], money(cost["usd"], cost["unknown"]), *tokens)
