"""People are told: by a signed webhook on a real socket, by apprise, or by the log; and a failure is said."""

import json

import pytest
from standardwebhooks import Webhook

from backlog_worker.domain.errors import NotFoundError
from backlog_worker.integrations.notify import Notifier
from backlog_worker.lifecycle import alerts, send
from backlog_worker.testing import POLICY, bench

RULE = POLICY + 'alerts: [{ id: late, when: "dashboard.total > 0", notify: [oncall] }]\n'
BODY = {"kind": "alert.fired", "env": "prod", "alert": "a1", "rule": "late", "words": "total 1"}


def notifier(address, **secrets):
    return Notifier({"BACKLOG_NOTIFY_ONCALL": address}, secrets.get)


def test_a_webhook_is_cloudevents_and_signed(httpserver):
    seen = []

    def _take(request):
        seen.append((dict(request.headers), request.get_data()))
        from werkzeug import Response

        return Response("ok")

    httpserver.expect_request("/hook").respond_with_handler(_take)
    made = notifier(httpserver.url_for("/hook"), NOTIFY_ONCALL_SECRET="c" * 32)
    assert made.tell("oncall", "t", "w", BODY) == "posted, 200"
    ((headers, body),) = seen
    Webhook(("c" * 32).encode()).verify(body, {key.lower(): value for key, value in headers.items()})
    event = json.loads(body)
    assert (event["specversion"], event["type"], event["data"]) == ("1.0", "dev.backlog-worker.alert.fired", BODY)
    made.tell("oncall", "t", "w", BODY)
    assert json.loads(seen[1][1])["id"] == event["id"], "a second try has the id of the first"


def test_whoever_does_not_take_it_is_an_error_with_its_words(httpserver):
    httpserver.expect_request("/hook").respond_with_data("no", status=500)
    with pytest.raises(OSError, match="answered 500"):
        notifier(httpserver.url_for("/hook")).tell("oncall", "t", "w", BODY)
    with pytest.raises(OSError, match="Connect"):
        notifier("http://127.0.0.1:9/hook").tell("oncall", "t", "w", BODY)
    with pytest.raises(OSError, match="does not support the address"):
        notifier("unheard://u:secret@x").tell("oncall", "t", "w", BODY)


def test_chat_and_mail_go_through_apprise(httpserver):
    httpserver.expect_request("/", method="POST").respond_with_data("ok")
    host, port = httpserver.host, httpserver.port
    assert notifier(f"json://{host}:{port}/").tell("oncall", "a title", "words", BODY) == "sent"
    (request, _) = httpserver.log[0]
    assert (request.json["title"], request.json["message"]) == ("a title", "words")


def test_a_route_never_shows_a_password_and_an_unknown_name_is_told_by_the_log():
    made = notifier("mailto://user:secret@example.com?to=x")
    assert "secret" not in made.route("oncall")
    assert made.route("cto") == "log:"
    assert made.tell("cto", "t", "w", BODY) == "logged"


def test_an_alert_is_told_until_it_arrives_and_not_again(httpserver):
    from dataclasses import replace

    answers = [500, 500, 200]

    def _take(_request):
        from werkzeug import Response

        return Response("", status=answers.pop(0))

    httpserver.expect_request("/hook").respond_with_handler(_take)
    table = bench(policy=RULE)
    table.kit = replace(table.kit, notifier=notifier(httpserver.url_for("/hook")))
    table.file({})
    assert alerts.evaluate(table.kit)["fired"] == ["late"]
    for delivered in (0, 0, 1, 0):
        assert send.send(table.kit) == delivered
        table.clock.forward(60)
    assert answers == []
    assert alerts.rehearse(table.kit, "late")[0]["routes"] == {"oncall": httpserver.url_for("/hook")}
    with pytest.raises(NotFoundError, match="no alert rule unheard"):
        alerts.rehearse(table.kit, "unheard")
