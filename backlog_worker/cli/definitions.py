"""policy, schema, explain-code: the files that people write."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from backlog_worker.cli.access import kit
from backlog_worker.cli.named import read_text
from backlog_worker.cli.output import FINDINGS, as_json, document, following, plain, say, shown, table, talk
from backlog_worker.domain.errors import InvalidFileError, NotFoundError, UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from datetime import datetime

    from backlog_worker.domain.errors import Finding
    from backlog_worker.lifecycle.reading import Read
    from backlog_worker.store import Unit

SCHEMAS = Path(__file__).parent / "files" / "schemas"
STORED = ("writeback", "event", "evidence", "seal")
policy = typer.Typer(help="The policy: the rules of the backlog.", no_args_is_help=True)
Files = Annotated[list[Path] | None, typer.Argument(help="Files; default: the files of the project.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(policy, name="policy")
    app.command("schema")(schema)
    app.command("explain-code")(explain_code)


@policy.command("validate")
def validate_policy(files: Files = None) -> None:
    """Check the policy and report all errors at once."""
    validate("policy", files)


@policy.command("show")
def show_policy(
    at: Annotated[
        str, typer.Option("--at", help="The policy that was in force at this time, such as 2026-11-20T02:14Z.")
    ] = "",
    sha256: Annotated[str, typer.Option("--hash", help="The policy with this hash, or a prefix of it.")] = "",
) -> None:
    """Print the policy that is in force, was in force at a given time, or has a given hash."""
    if at or sha256:
        _show_past(at, sha256)
        return
    with_kit, _ = kit()
    with with_kit.store.read() as unit:
        found = with_kit.book.policy(unit)

    def _human() -> None:
        talk(f"policy {found.stamp}")
        say(found.body.rstrip())

    shown("backlog-worker/policy", {"version": found.version, "sha256": found.hash, "body": found.body}, _human)


def _show_past(at: str, sha256: str) -> None:
    from backlog_worker.domain.moment import parsed as moment

    if at and sha256:
        message = "--at and --hash each name one policy; give one of them"
        raise UsageError(message)
    with_kit, _ = kit()
    with with_kit.store.read() as unit:
        row, words = _then(unit, with_kit.env, moment(at)) if at else _hashed(unit, with_kit.env, sha256)

    def _human() -> None:
        talk(f"policy {row['version']} ({row['hash'][:6]}): {words}")
        say(row["body"].rstrip())

    data = {"version": int(row["version"]), "sha256": row["hash"], "body": row["body"], "in_force": words}
    shown("backlog-worker/policy", data, _human)


def _then(unit: "Unit", env: str, moment: "datetime") -> "tuple[dict[str, Any], str]":
    """Return the policy that was in force at a moment, with the period; raises NotFoundError."""
    from backlog_worker.lifecycle.book import in_force

    enacted = in_force(unit, env, moment)
    if enacted is None:
        first = next(iter(unit.enactments(env, "policy", "policy")), None)
        since = f"; it is recorded since {plain(first['at'])}" if first else ""
        message = f"which policy was in force at {plain(moment)} is not known{since}"
        raise NotFoundError(message, hint="backlog-worker policy history")
    row = unit.definition(env, "policy", enacted["hash"])
    if row is None:
        message = f"the policy {enacted['hash'][:12]} was in force then, and its text is gone"
        raise NotFoundError(message)
    until = f"until {plain(enacted['until'])}" if enacted["until"] else "and still is"
    return row, f"in force from {plain(enacted['at'])} {until}, by {enacted['author']}"


def _hashed(unit: "Unit", env: str, sha256: str) -> "tuple[dict[str, Any], str]":
    """Return the policy with a hash prefix, and when it was in force; raises NotFoundError or UsageError."""
    digest = sha256.strip().lower()
    known = set(digest) <= set("0123456789abcdef") and digest
    found = unit.definitions_like(env, "policy", digest) if known else []
    if not found:
        message = f"there is no policy with the hash {sha256}"
        raise NotFoundError(message, hint="backlog-worker policy history")
    if len(found) > 1:
        message = f"{len(found)} policies begin with {sha256}: {', '.join(row['hash'][:12] for row in found)}"
        raise UsageError(message)
    times = [plain(each["at"]) for each in unit.enactments(env, "policy", "policy") if each["hash"] == found[0]["hash"]]
    words = f"came into force at {', '.join(times)}" if times else "when it was in force was not recorded"
    return found[0], words


@policy.command("history")
def policy_history() -> None:
    """List all versions of the policy that have been in force."""
    with_kit, _ = kit()
    with with_kit.store.read() as unit:
        found = unit.definitions(with_kit.env, "policy")
    rows = [(d["version"], d["hash"][:12], "live" if d["live"] else "", d["at"], d["author"]) for d in found]
    shown("backlog-worker/policies", found, lambda: table("", ("version", "hash", "", "since", "by"), rows))


@policy.command("test")
def run_examples(files: Files = None) -> None:
    """Run the tests of the policy and show which entry runs first; they also run at every load."""
    from backlog_worker.domain import examples
    from backlog_worker.domain import policy as policies

    failed = 0
    for path in paths("policy", files):
        for order in examples.orders(policies.load(read_text(path), file=str(path)), file=str(path)):
            failed += not order.holds
            say(f"{'ok    ' if order.holds else 'FAILED'}  {order.name}")
            for each in order.given:
                terms = " + ".join(f"{term} {points:g}" for term, points in each.terms.items())
                say(
                    f"          {each.entry.id}  {each.score:g} = {terms}"
                    if each.score is not None
                    else f"          {each.entry.id}  {each.error}"
                )
            if not order.holds:
                given = ", ".join(each.entry.id for each in order.given)
                say(f"          expected {', '.join(order.wanted)}; the policy gives {given}")
    if failed:
        raise SystemExit(1)


def schema(
    kind: Annotated[
        str,
        typer.Argument(help="The kind: policy, pipeline, agent, entry, digest, writeback, event, evidence or seal."),
    ],
    version: Annotated[int, typer.Option("--version", min=0, help="The version of the schema; 0: the newest.")] = 0,
) -> None:
    """Print a JSON Schema, for editors and for whoever reads what we write."""
    found = stored_schema(kind, version) if kind in STORED else schema_of(kind)
    document(found)


def record_schema(version: int) -> dict[str, object]:
    """Return the JSON Schema of one version of the accountability record."""
    return stored_schema("writeback", version)


def stored_schema(kind: str, version: int = 0) -> dict[str, object]:
    """Return the JSON Schema of stored or sent data; every version ever written has one.

    Raises NotFoundError for an unknown version.
    """
    found = {int(path.stem.partition(".v")[2]): path for path in SCHEMAS.glob(f"{kind}.v*.json")}
    path = found.get(version or max(found))
    if path is None:
        message = f"there is no version {version} of {kind}"
        raise NotFoundError(message, hint=f"one of: {', '.join(map(str, sorted(found)))}")
    value: dict[str, object] = json.loads(path.read_text(encoding="utf-8"))
    return value


def schema_of(kind: str) -> dict[str, object]:
    """Return the JSON Schema of one kind of file; raises UsageError."""
    from pydantic import BaseModel

    from backlog_worker.domain.agent import AgentFile
    from backlog_worker.domain.digest import DigestFile
    from backlog_worker.domain.document import suggestion
    from backlog_worker.domain.draft import Draft
    from backlog_worker.domain.language import PipelineFile
    from backlog_worker.domain.policy import PolicyFile

    models: dict[str, type[BaseModel]] = {
        "policy": PolicyFile,
        "pipeline": PipelineFile,
        "agent": AgentFile,
        "entry": Draft,
        "digest": DigestFile,
    }
    if kind not in models:
        known = [*models, *STORED]
        message = f"there is no schema {kind!r}"
        raise UsageError(message, hint=suggestion(kind, known) or f"one of: {', '.join(known)}")
    found = models[kind].model_json_schema(by_alias=True)
    if kind in {"policy", "pipeline"}:  # people write versions as numbers; we read them as they are written
        found["properties"]["version"] = {"type": ["string", "number"]}
    return {"$schema": "http://json-schema.org/draft-07/schema#", **found}


def explain_code(code: str) -> None:
    """Explain a code and its remedy."""
    from backlog_worker.cli import codes
    from backlog_worker.domain.document import suggestion

    found = codes.explained(code)
    if found is None:
        message = f"{code} is not a code"
        near = suggestion(code.upper(), codes.names()) or suggestion(code.lower(), codes.names())
        raise NotFoundError(message, hint=near or f"known: {', '.join(codes.names())}")
    shown("backlog-worker/code", {"code": code, "means": found[0], "remedy": found[1]}, lambda: say(found[0], found[1]))


def validate(kind: str, files: list[Path] | None) -> None:
    """Check files of one kind and report every error of every file; ends with status 7 if any is invalid."""
    from backlog_worker.integrations.project import definition_at
    from backlog_worker.lifecycle.reading import read

    people = _people(kind)
    findings: list[Finding] = []
    good: list[Read] = []
    for path in paths(kind, files):
        found = read(definition_at(kind, path), people)
        if isinstance(found, InvalidFileError):
            findings += found.findings
            continue
        good.append(found)
        talk(*(str(each) for each in getattr(found.found, "warnings", ())))
        talk(f"{path}: {kind} {found.name} {found.found.version} is valid ({found.found.hash[:12]})")
    findings += _named_twice(good)
    if findings:
        if not _as_json(findings):
            talk(*(f"{finding}\n" for finding in findings), f"{len(findings)} mistakes")
        raise SystemExit(FINDINGS)
    talk(*_not_in_force(good))
    following("backlog-worker up, whose workers follow these files")


def _named_twice(good: "Sequence[Read]") -> "Iterator[Finding]":
    from backlog_worker.lifecycle.reading import named_twice

    yield from (each for error in named_twice(good).values() for each in error.findings)


def _not_in_force(good: "Sequence[Read]") -> list[str]:
    """Return how these files differ from what is in force, if there is a backlog to ask."""
    from backlog_worker import settings
    from backlog_worker.domain.errors import BacklogError
    from backlog_worker.lifecycle.standing import compared

    database = settings.load().database
    if database.startswith("sqlite:///") and not Path(database.removeprefix("sqlite:///")).exists():
        return []
    try:
        return compared(kit()[0], good)
    except BacklogError as error:
        return [f"cannot tell whether these are in force: {str(error).splitlines()[0]}"]


def _people(kind: str) -> "Collection[str] | None":
    """Return the roles of the project's policy, or None without a valid policy."""
    from backlog_worker import settings
    from backlog_worker.domain.policy import Policy
    from backlog_worker.integrations.project import definition_at, policies
    from backlog_worker.lifecycle.reading import Read, read

    paths = policies(settings.load().folder)
    if kind != "pipeline" or not paths:
        return None
    found = read(definition_at("policy", paths[0]), None)
    return found.found.people if isinstance(found, Read) and isinstance(found.found, Policy) else None


def _as_json(findings: "list[Finding]") -> bool:
    from backlog_worker.cli.output import OPTIONS

    if OPTIONS.as_json:
        as_json("backlog-worker/findings", findings)
    return OPTIONS.as_json


def paths(kind: str, files: list[Path] | None) -> list[Path]:
    """Return the named files, or those of the project; raises NotFoundError if there are none."""
    from backlog_worker import settings
    from backlog_worker.integrations import project

    if files:
        return files
    folder = settings.load().folder
    try:
        found = project.policies(folder) if kind == "policy" else project.pipelines(folder)
    except OSError:
        found = []
    if not found or not found[0].exists():
        message = f"there is no {kind} in {folder}"
        raise NotFoundError(message, hint="backlog-worker init")
    return found
