"""B3, B4: a signed message is filed whole, or refused with its reason; nothing accepted is lost or cut."""

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta

import pytest
from standardwebhooks import Webhook

from backlog_worker.domain import expression
from backlog_worker.domain.errors import ConflictError, InvalidInputError, UnauthenticatedError
from backlog_worker.domain.expression import ExpressionError
from backlog_worker.lifecycle import triggers
from backlog_worker.testing import bench

SECRET = "hook-secret-value"
ISSUED = "whsec_" + base64.b64encode(b"k" * 24).decode()
HOOKED = """\
name: hooked
jobs: [{ id: a, python: "f:a" }]
triggers:
  - { type: push, secret: "${{ secrets.HOOK }}", labels: [ai-ok] }
  - { type: webhook, secret: "${{ secrets.HOOK }}", labels: [ai-ok], transform: { text: event.text } }
"""
BOTH = HOOKED + '  - { type: webhook, secret: "${{ secrets.HOOK }}", labels: [ai-ok] }\n'


@pytest.fixture
def table():
    return bench(pipelines=[HOOKED], secrets={"HOOK": SECRET})


def signed(value, **headers):
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    signature = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    return body, {"X-Hub-Signature-256": f"sha256={signature}", **headers}


def inputs(table, entry_id):
    with table.kit.store.read() as unit:
        return unit.inputs([unit.entry(entry_id)])[entry_id]


def test_a_push_that_is_too_large_to_file_is_refused_with_its_size_and_the_way_out(table):
    body, headers = signed({"ref": "refs/heads/main", "text": "x" * 400_000}, **{"X-GitHub-Event": "push"})
    with pytest.raises(InvalidInputError, match="400") as caught:
        triggers.receive(table.kit, "hooked", body, headers)
    assert "transform" in caught.value.hint
    assert table.statuses() == {}


def test_what_one_trigger_cannot_file_is_told_beside_what_another_filed():
    table = bench(pipelines=[BOTH], secrets={"HOOK": SECRET})
    got = triggers.receive(table.kit, "hooked", *signed({"text": "short", "rest": "x" * 400_000}))
    assert (len(got.filed), len(got.refused)) == (1, 1)
    assert inputs(table, got.filed[0].entry_id) == {"text": "short"}


@pytest.mark.parametrize("size", [65_535, 65_536, 65_537, 200_000])
def test_a_transform_files_a_text_whole_or_refuses_it(table, size):
    (filed,) = triggers.receive(table.kit, "hooked", *signed({"text": "x" * size})).filed
    assert len(inputs(table, filed.entry_id)["text"]) == size


def test_a_transform_refuses_a_text_that_no_entry_can_hold(table):
    with pytest.raises(InvalidInputError, match="300"):
        triggers.receive(table.kit, "hooked", *signed({"text": "x" * 300_000}))


@pytest.mark.parametrize(
    ("secret", "signer"), [(ISSUED, ISSUED), (ISSUED.rstrip("="), ISSUED), (SECRET, SECRET.encode())]
)
def test_secrets_of_standard_webhooks_work_as_their_senders_show_them(secret, signer):
    table = bench(pipelines=[HOOKED], secrets={"HOOK": secret})
    body, now = json.dumps({"text": "a"}).encode(), datetime.now(UTC)
    signature = Webhook(signer).sign("m-1", now, body.decode())
    headers = {"webhook-id": "m-1", "webhook-timestamp": str(int(now.timestamp())), "webhook-signature": signature}
    assert triggers.receive(table.kit, "hooked", body, headers).filed
    with pytest.raises(UnauthenticatedError):
        triggers.receive(table.kit, "hooked", body, {**headers, "webhook-id": "m-2"})  # the signature covers the id


def test_a_secret_that_is_no_base64_says_so():
    table = bench(pipelines=[HOOKED], secrets={"HOOK": "whsec_!"})
    headers = {"webhook-id": "a", "webhook-timestamp": "1", "webhook-signature": "v1,x"}
    with pytest.raises(UnauthenticatedError, match="base64"):
        triggers.receive(table.kit, "hooked", b"{}", headers)


def test_b4_a_message_that_is_replayed_under_another_delivery_id_is_refused_inside_of_the_window(table):
    body, headers = signed({"text": "a"}, **{"X-GitHub-Delivery": "d-1"})
    (filed,) = triggers.receive(table.kit, "hooked", body, headers).filed
    with pytest.raises(ConflictError, match="another delivery id"):
        triggers.receive(table.kit, "hooked", body, {**headers, "X-GitHub-Delivery": "d-2"})
    (again,) = triggers.receive(table.kit, "hooked", body, headers).filed
    assert (again.entry_id, again.new) == (filed.entry_id, False)
    table.clock.forward(triggers.REPLAYED_SECONDS + 1)
    (later,) = triggers.receive(table.kit, "hooked", body, {**headers, "X-GitHub-Delivery": "d-3"}).filed
    assert later.new
    with table.kit.store.read() as unit:
        assert sum(row["name"].startswith("message:") for row in unit.leases()) == 1


@pytest.mark.parametrize(
    "payload",
    [
        b"[" * 3000 + b"]" * 3000,
        b'{"text":' + b"[" * 3000 + b"]" * 3000 + b"}",
        b'{"text": 1e999}',
        b'{"text": NaN}',
        b'{"text": "\\ud800"}',
        b'{"text": "a\\u0000b"}',
        b"\xff\xfe{}",
        b'{"text": {"commits": 3}, "commits": 3, "pull_request": "x", "ref": 7}',
        b'{"pull_request": {"base": []}, "object_attributes": 1, "commits": [[1], {"added": 3, "removed": {"a": 1}}]}',
        b'{"text": ' + b"9" * 5000 + b"}",
    ],
)
@pytest.mark.parametrize("event", ["", "push", "pull_request"])
def test_an_odd_message_is_filed_or_refused_and_never_half_filed(table, payload, event):
    body, headers = signed(payload, **({"X-GitHub-Event": event} if event else {}))
    try:
        got = triggers.receive(table.kit, "hooked", body, headers)
    except InvalidInputError as error:
        assert str(error)
        assert table.statuses() == {}
    else:
        assert all(each.entry_id for each in got.filed)


def test_expressions_read_values_whole():
    value = {"output": expression.plain({"items": list(range(600)), "text": "y" * 70_000})}
    names = (("output", "any"),)
    assert expression.compiled("size(output.items) == 600 && size(output.text) == 70000", names).truth(value)
    assert expression.compiled("output.items.all(each, each < 600.0)", names).truth(value)


@pytest.mark.parametrize(
    "source",
    [
        "output.items.all(a, a in output.items)",
        "output.items.exists(a, output.text.contains('z'))",
        "output.items.filter(a, output.text.matches('z+')).size() == 0",
    ],
)
def test_an_expression_that_searches_for_every_item_refuses_what_would_take_for_ever(source):
    program = expression.compiled(source, (("output", "any"),))
    short = {"output": expression.plain({"items": list(range(500)), "text": "y"})}
    assert program.truth(short) in {True, False}
    for value in ({"items": list(range(501)), "text": "y"}, {"items": [1], "text": "y" * 70_000}):
        with pytest.raises(ExpressionError, match=r"at most \d+ go there"):
            program.truth({"output": expression.plain(value)})


@pytest.mark.parametrize(
    "source",
    ["output.items.all(a, output.items.exists(b, a == b))", "output.items.map(a, output.items.map(b, a + b)) == []"],
)
def test_loops_within_loops_end_by_the_budget_of_the_language(source):
    program = expression.compiled(source, (("output", "any"),))
    assert program.truth({"output": expression.plain({"items": list(range(20))})}) in {True, False}
    with pytest.raises(ExpressionError, match="budget"):
        program.truth({"output": expression.plain({"items": list(range(100_000))})})


def test_a_delivery_of_standard_webhooks_is_five_minutes_old_at_most(table):
    now = datetime.now(UTC) - timedelta(minutes=6)
    signature = Webhook(SECRET.encode()).sign("m-1", now, "{}")
    headers = {"webhook-id": "m-1", "webhook-timestamp": str(int(now.timestamp())), "webhook-signature": signature}
    with pytest.raises(UnauthenticatedError):
        triggers.receive(table.kit, "hooked", b"{}", headers)
