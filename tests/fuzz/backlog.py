"""Doors that lead into a backlog: files of records, search, tools, HTTP, messages, digests, recordings, bundles."""

import hashlib
import hmac
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from backlog_worker.domain import digest, search
from backlog_worker.domain.errors import BacklogError
from backlog_worker.domain.roles import everything
from backlog_worker.integrations import files
from backlog_worker.integrations.notify import PREFIX, Notifier
from backlog_worker.lifecycle import access, intake, lookup, tools
from backlog_worker.testing import Bench, bench, draft
from tests.fuzz import hostile
from tests.fuzz.door import Door, nothing, ours

PEPPER = b"pepper"
SECRET = "s" * 32
HOOKED = """\
name: hooked
jobs: [{ id: a, python: "f:a" }]
triggers:
  - { type: webhook, secret: "${{ secrets.HOOK }}", labels: [ai-ok], transform: { ref: "event.ref" } }
  - { type: push, secret: "${{ secrets.HOOK }}", labels: [ai-ok], branches: ["main", "r*"], paths: ["src/**"] }
  - { type: pull_request, secret: "${{ secrets.HOOK }}", labels: [ai-ok], types: [opened], filters: { a.b: [1] } }
"""
ISSUE = {
    "number": 1,
    "title": "Login loop",
    "body": "It loops.",
    "url": "https://github.com/a/b/issues/1",
    "labels": [{"name": "ai-ok"}],
    "assignees": [{"login": "ana"}],
    "author": {"login": "li"},
    "createdAt": "2026-01-01T00:00:00Z",
    "updatedAt": "2026-01-02T00:00:00Z",
    "comments": [],
    "state": "OPEN",
}
EXECUTE = {"tool": "backlog_tool", "action": "list", "env": "prod", "dry_run": True, "params": {"q": "status:queued"}}


@dataclass(frozen=True)
class World:
    """A backlog with some entries, a folder, and a client that holds a token for everything."""

    table: Bench
    folder: Path
    client: Any = None
    token: str = ""


@contextmanager
def filed(folder: Path) -> Iterator[World]:
    """A backlog with some entries."""
    table = bench(pipelines=[HOOKED, "name: spec\njobs: [{ id: draft, python: 'f:a' }]\n"], secrets={"HOOK": SECRET})
    table.file(*({"title": f"one {number}", "labels": ["ai-ok", "x"]} for number in range(3)))
    table.run(3)
    yield World(table, folder)
    table.kit.store.close()


@contextmanager
def served(folder: Path) -> Iterator[World]:
    """The same, behind the real HTTP app; a fault that nobody foresaw is raised here, not answered."""
    from fastapi.testclient import TestClient

    from backlog_worker.web import app

    with filed(folder) as world:
        held = access.create(world.table.kit, PEPPER, access.Asked(name="x", role="admin"), actor="ana")
        made = app.made(world.table.kit, PEPPER)
        with TestClient(made) as client:
            yield World(world.table, folder, client, held)


def check_records(world: World, value: tuple[str, Any]) -> None:
    """One bad record is refused with its place, and its neighbours are filed."""
    kind, odd = value
    keys = [world.table.kit.new_id("good") for _ in range(2)]
    first, last = (draft(dedupe_key=key) for key in keys)
    path = world.folder / f"records.{kind}"
    texts = [json.dumps(first), written(odd), json.dumps(last)]
    path.write_text(
        f"[{', '.join(texts)}]" if kind == "json" else "\n".join(texts), encoding="utf-8", errors="surrogatepass"
    )
    found = ours(lambda: list(intake.file(world.table.kit, files.records(path), actor="ana", channel="import")))
    if isinstance(found, BacklogError):
        return  # the text of the file ends in the middle: no record can be told from another
    with world.table.kit.store.read() as unit:
        kept = unit.with_key("prod", keys)
    assert list(kept) == keys, (odd, found)


def written(value: Any) -> str:
    """Write a value as JSON, half characters and NaN too; null where that is not possible."""
    try:
        return json.dumps(value, ensure_ascii=False)
    except (ValueError, RecursionError):
        return "null"


def check_tables(world: World, text: str) -> None:
    """A file of any text is refused, or gives entries."""
    for kind in ("csv", "yml", "json", "jsonl"):
        path = world.folder / f"table.{kind}"
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        ours(lambda path=path: list(intake.file(world.table.kit, files.records(path), actor="ana", channel="import")))


def tables() -> st.SearchStrategy[str]:
    """Tables with odd headers and cells, and texts that are none."""
    cell = hostile.texts() | st.sampled_from(
        ["title", "labels", "input.body", "signals.risk", "constraints.windows", "1"]
    )
    rows = st.lists(st.lists(cell, min_size=1, max_size=4).map(",".join), min_size=1, max_size=4).map("\n".join)
    return st.builds(str.__add__, st.sampled_from(["", "title,labels,priority\n", "\ufeff", "- {title: a}\n- "]), rows)


def check_search(world: World, text: str) -> None:
    """A query is refused with its place, or finds entries, in the database and among retired ones alike."""
    kit = world.table.kit
    wanted = ours(search.parsed, text)
    if not isinstance(wanted, BacklogError):
        ours(lookup.listed, kit, wanted)
        with kit.store.read() as unit:
            for each in unit.search("prod", search.parsed(""), most=2):
                search.matches(wanted, each, unit.now())
    ours(lookup.id_of, kit, text)


def queries() -> st.SearchStrategy[str]:
    """Terms of the language with odd values, and hostile texts."""
    term = st.builds(
        "{}{}:{}".format, st.sampled_from(["", "-"]), st.sampled_from([*search.KEYS, "unheard"]), hostile.texts()
    )
    return st.lists(term | hostile.texts(), min_size=1, max_size=3).map(" ".join)


def check_tools(world: World, value: tuple[int, dict[str, Any]]) -> None:
    """A tool does what its parameters say, or refuses them."""
    tool = tools.TOOLS[value[0] % len(tools.TOOLS)]
    ours(tools.execute, world.table.kit, everything("ana"), tool.tool, tool.action, value[1])


def params() -> st.SearchStrategy[dict[str, Any]]:
    """Parameters of tools, by the names that there are."""
    names = sorted({name for tool in tools.TOOLS for name in tool.params.model_fields})
    entry = hostile.spoiled(draft(dedupe_key="k")).map(lambda each: {"entry": each})
    return st.dictionaries(st.sampled_from(names), hostile.values(), max_size=3) | entry


def check_http(world: World, value: tuple[str, str, dict[str, Any]]) -> None:
    """A request with a bad value is the caller's fault: never a status of 500 or more."""
    name, text, body = value
    headers = {"authorization": f"Bearer {world.token}", "content-type": "application/json"}
    sent = written(body).encode("utf-8", "surrogatepass")
    answers = [world.client.post("/v1/tools/execute", content=sent, headers=headers)]
    answers += [world.client.post("/v1/tools/execute", content=text.encode("utf-8", "surrogatepass"), headers=headers)]
    query = {name: text.encode("utf-8", "replace").decode()}
    answers += [world.client.get("/v1/backlog/dashboard", params=query, headers=headers)]
    answers += [world.client.post("/v1/backlog/generate/weekly", params=query, headers=headers)]
    for each in answers:
        assert each.status_code < 500, (each.status_code, each.text[:300])


def check_hooks(world: World, value: tuple[str, dict[str, str], Any]) -> None:
    """A signed message of any content is filed or refused: never a status of 500 or more."""
    kind, more, payload = value
    body = (
        payload.encode("utf-8", "surrogatepass")
        if isinstance(payload, str)
        else written(payload).encode("utf-8", "surrogatepass")
    )
    signed = "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    headers = {"x-hub-signature-256": signed, "x-github-event": kind, **more}
    sent = [(name, text.encode("utf-8", "replace")) for name, text in headers.items()]
    answer = world.client.post("/v1/hooks/hooked", content=body, headers=sent)
    assert answer.status_code < 500, (answer.status_code, answer.text[:300])


def messages() -> st.SearchStrategy[tuple[str, dict[str, str], Any]]:
    """Messages as GitHub and GitLab send them, spoiled, and any text."""
    push = {"ref": "refs/heads/main", "commits": [{"added": ["src/a"], "modified": [1]}], "a": {"b": 1}}
    pull = {"action": "opened", "pull_request": {"base": {"ref": "main"}}, "object_attributes": {}, "inputs": {}}
    payload = hostile.spoiled(push) | hostile.spoiled(pull) | hostile.values() | hostile.texts()
    header = st.sampled_from(
        [
            "x-github-delivery",
            "x-gitlab-event",
            "webhook-id",
            "webhook-signature",
            "webhook-timestamp",
            "content-length-x",
        ]
    )
    printable = hostile.texts().map(lambda text: "".join(each for each in text if each.isprintable())[:100])
    return st.tuples(
        st.sampled_from(["push", "pull_request", "", "x"]), st.dictionaries(header, printable, max_size=2), payload
    )


def check_digests(world: World, value: dict[str, Any]) -> None:
    """A digest that anybody may write is refused with its file, or makes drafts that can be filed."""
    found = ours(digest.checked, value, file="d.json")
    if isinstance(found, BacklogError):
        return
    with world.table.kit.store.read() as unit:
        policy = world.table.kit.book.policy(unit)
    wanted = ours(digest.wanted, found, policy, datetime(2026, 11, 25, tzinfo=UTC))
    if not isinstance(wanted, BacklogError):
        ours(
            lambda: list(
                intake.file(world.table.kit, [("d", each) for each in wanted.drafts], actor="ana", channel="generate")
            )
        )


def check_digest_files(world: World, text: str) -> None:
    """A report that was spoiled on the disk stops its own generation, and says which file it is."""
    for kind, name, action in (
        ("platform", "2026-47", "auto_generate_weekly"),
        ("risk", "2026-11-24", "auto_generate_daily"),
    ):
        path = world.folder / "reports" / kind / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        from dataclasses import replace

        kit = replace(world.table.kit, reports=replace(world.table.kit.reports, folder=world.folder / "reports"))
        ours(tools.execute, kit, everything("ana"), "backlog_tool", action, {})


def check_addresses(_world: None, value: tuple[str, str]) -> None:
    """An address where nobody can be told says so by OSError, and costs nobody else anything."""
    address, secret = value
    told = Notifier({f"{PREFIX}ONCALL": address, f"{PREFIX}OTHER": "log:"}, {"NOTIFY_ONCALL_SECRET": secret}.get)
    body = {"kind": "alert", "env": "prod", "words": "x"}
    try:
        told.tell("oncall", "title", "text", body)
    except OSError as error:
        assert str(error)
    told.route("oncall")
    assert told.tell("other", "title", "text", body) == "logged"


def addresses() -> st.SearchStrategy[str]:
    """Addresses of which none reaches anybody."""
    fixed = [
        "http://127.0.0.1:99999/x",
        "http://127.0.0.1:x/",
        "https://[::1",
        "http://",
        "https://a b/",
        "http://\x7f/",
        "mailto://",
        "slack://x",
        "json://[",
        "x://",
        "log:",
        "http://127.0.0.1:1/\ud800",
    ]
    return st.sampled_from(fixed) | hostile.texts().filter(lambda text: not text.startswith(("http://x", "x://")))


DOORS = [
    Door(
        name="records",
        inputs=st.tuples(
            st.sampled_from(["json", "jsonl"]),
            hostile.spoiled(ISSUE) | hostile.spoiled(draft(dedupe_key="k")) | hostile.values(),
        ),
        check=check_records,
        world=filed,
        examples=60,
    ),
    Door(name="tables", inputs=tables(), check=check_tables, world=filed, examples=40),
    Door(name="search", inputs=queries(), check=check_search, world=filed, examples=80),
    Door(name="tools", inputs=st.tuples(st.integers(0, 100), params()), check=check_tools, world=filed, examples=60),
    Door(
        name="http",
        inputs=st.tuples(st.sampled_from(["env", "week", "dry_run", "x"]), hostile.texts(), hostile.spoiled(EXECUTE)),
        check=check_http,
        world=served,
        examples=30,
    ),
    Door(name="hooks", inputs=messages(), check=check_hooks, world=served, examples=50),
    Door(
        name="digests",
        inputs=hostile.spoiled(
            {
                "schema": "backlog-worker/digest@1",
                "kind": "platform",
                "env": "prod",
                "period": "2026-47",
                "generated_at": "2026-11-20T00:00:00Z",
                "services": [
                    {
                        "service": "gateway",
                        "score": 1.0,
                        "signals": {"a": 1.0},
                        "findings": [{"category": "maintenance", "title": "x"}],
                    }
                ],
            }
        ),
        check=check_digests,
        world=filed,
        examples=60,
    ),
    Door(name="digest-files", inputs=hostile.texts(), check=check_digest_files, world=filed, examples=30),
    Door(
        name="addresses",
        inputs=st.tuples(addresses(), hostile.texts()),
        check=check_addresses,
        world=nothing,
        examples=40,
    ),
]
