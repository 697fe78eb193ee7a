"""An auditor finds an entry by whatever it is called, retired or not, and is shown then as of then."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backlog_worker.domain import handle
from backlog_worker.domain.errors import NotFoundError, UsageError
from backlog_worker.domain.events import upcast
from backlog_worker.domain.search import matches, parsed
from backlog_worker.integrations.files import drafted
from backlog_worker.lifecycle import dispatch, evidence, explain, lookup, operate, operation, retire, tools
from backlog_worker.lifecycle.book import in_force
from backlog_worker.store import migrate
from backlog_worker.testing import POLICY, bench

OPEN_TO_ALL = POLICY.replace("'ai-ok' in entry.labels", "entry.title != ''")


def issue(number, title, *, repository="acme/api", **more):
    url = f"https://github.com/{repository}/issues/{number}"
    usual = {"number": number, "title": title, "url": url, "labels": [{"name": "ai-ok"}], "body": "x"}
    return {**drafted({**usual, "createdAt": "2026-12-01T00:00:00Z"}), **more}


@pytest.fixture(params=["memory", "postgres"])
def table(request):
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else "memory://"
    return bench(url=url, policy=OPEN_TO_ALL)


def retired(table):
    """Complete and retire everything that is there."""
    table.run(3)
    with table.kit.store.begin() as unit:
        unit.run("UPDATE entries SET changed_at = {now} - " + unit._seconds_of("90000"))
    assert retire.cleanup(table.kit, retention_days=1)["removed"]["entries"]


def handles_of(number, repository="acme/api"):
    short = repository.rpartition("/")[2]
    return [
        *(f"#{number}", str(number), f"{repository}#{number}", f"{short}#{number}"),
        f"github:{repository}#{number}",
        f"https://github.com/{repository}/issues/{number}",
        f"http://github.com/{repository}/issues/{number}/",
        f"https://github.com/{repository}/issues/{number}#issuecomment-7",
        f"https://GitHub.com/{repository}/issues/{number}?q=1",
    ]


@pytest.mark.parametrize("gone", [False, True])
def test_c3_an_entry_is_found_by_everything_that_it_is_called(table, gone):
    one, _, other = table.file(
        issue(329, "Login loop on Safari"),
        issue(3290, "Größe der Kopfzeile"),
        issue(32, "Login fails", repository="acme/web"),
    )
    if gone:
        retired(table)
    for text in [
        *handles_of(329),
        "safari",
        "LOGIN loop",
        "Loop Login",
        one.entry_id,
    ]:
        assert lookup.id_of(table.kit, text) == one.entry_id, text
    for text in [*handles_of(32, "acme/web"), "login fails"]:
        assert lookup.id_of(table.kit, text) == other.entry_id, text
    assert lookup.id_of(table.kit, "größe")
    assert lookup.id_of(table.kit, "GRÖSSE KOPF")


@pytest.mark.parametrize("gone", [False, True])
def test_c3_what_fits_several_names_them_and_what_fits_none_says_so(table, gone):
    one, two = table.file(issue(329, "Login loop"), issue(329, "Login loop too", repository="acme/web"))
    if gone:
        retired(table)
    for text in ("#329", "329", "login"):
        with pytest.raises(UsageError) as refused:
            lookup.id_of(table.kit, text)
        assert one.entry_id in str(refused.value)
        assert two.entry_id in str(refused.value)
    for text in (
        "#330",
        "acme/other#329",
        "https://github.com/acme/api/issues/330",
        "logout",
        "",
        "  ",
        "%",
        "_",
        "bl_9Z",
    ):
        with pytest.raises(NotFoundError):
            lookup.id_of(table.kit, text)


def test_c3_a_live_and_a_retired_entry_of_one_name_are_both_candidates(table):
    table.file(issue(7, "Old trouble"))
    retired(table)
    table.file(issue(7, "New trouble", repository="acme/web"))
    with pytest.raises(UsageError, match="retired"):
        lookup.id_of(table.kit, "#7")
    with pytest.raises(UsageError, match="matches 2 entries"):
        lookup.id_of(table.kit, "trouble")


def test_c3_acts_take_handles_but_no_words_and_say_that_an_entry_was_retired(table):
    (filed,) = table.file(issue(329, "Login loop"))
    assert operation.wanted(table.kit, "#329").id == filed.entry_id
    with pytest.raises(NotFoundError):
        operation.wanted(table.kit, "login")
    retired(table)
    with pytest.raises(NotFoundError, match="was retired at"):
        operation.wanted(table.kit, "#329")
    assert evidence.export(table.kit, lookup.id_of(table.kit, "#329"))["entry"]["id"] == filed.entry_id


def test_c3_a_list_covers_retired_entries_and_agrees_with_the_rows_that_were_there(table):
    filters = [
        "",
        "status:completed",
        "priority:high",
        "-priority:high",
        "login",
        "#329",
        "label:ai-ok",
        "age:>1d",
        "team:web,",
    ]
    filters += [
        "key:github:acme/api#329",
        "service:a,b",
        "-login",
        "reason:NOT_ELIGIBLE",
        "failure:timeout",
        "login priority:high",
    ]
    table.file(
        issue(329, "Login loop", priority="high"),
        issue(5, "Slow search", service="a"),
        issue(6, "Login", labels=["ai-ok"]),
    )
    table.run(3)
    before = {text: [each.entry.id for each in lookup.listed(table.kit, parsed(text))] for text in filters}
    retired(table)
    for text in filters:
        assert [each.entry.id for each in lookup.listed(table.kit, parsed(f"{text} is:retired"))] == before[text], text
        assert lookup.listed(table.kit, parsed(text)) == []
        assert all(each.retired_at for each in lookup.listed(table.kit, parsed(f"{text} is:live,retired")))
    assert lookup.listed(table.kit, parsed("is:retired"), most=2)[1].entry.id == before[""][1]
    assert lookup.listed(table.kit, parsed("-is:live"))[0].entry.id == before[""][0]
    caller = tools.Caller(name="ana", scopes=frozenset({"entries.read"}))
    rows = tools.execute(table.kit, caller, "backlog_tool", "list", {"q": "is:retired #329"})
    assert [row["retired_at"] is not None for row in rows] == [True]


def test_c3_a_redacted_title_names_nobody_any_more(table):
    (filed,) = table.file(issue(329, "A secret of a customer"))
    retired(table)
    evidence.redact(table.kit, filed.entry_id, actor="ana", reason="asked")
    with pytest.raises(NotFoundError):
        lookup.id_of(table.kit, "secret customer")
    assert lookup.id_of(table.kit, "acme/api#329") == filed.entry_id, "its key is kept"


def test_c3_a_retired_entry_whose_history_is_gone_is_still_found_by_its_key():
    table = bench(policy=OPEN_TO_ALL + "retention: { evidence: 1s }\n")
    (filed,) = table.file(issue(329, "Login loop"))
    table.run(3)
    table.clock.forward(90_000)
    retire.cleanup(table.kit, retention_days=1)
    table.clock.forward(10)
    assert retire.cleanup(table.kit, retention_days=1)["removed"]["histories"] == 1
    assert lookup.id_of(table.kit, "#329") == filed.entry_id
    assert [each.entry.status for each in lookup.listed(table.kit, parsed("is:retired"))] == ["completed"]


@given(st.text(max_size=40))
def test_c3_any_text_is_read_and_fits_nothing_by_accident(text):
    entry = {"id": "bl_1", "dedupe_key": "k", "url": "", "external_ref": "", "title": "Zzyzx"}
    how = handle.fits(handle.read(text), entry)
    if how is not None:
        assert text.strip() in {"bl_1", "k"} or how in {handle.WORDS, handle.BEGINS}


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    edits=st.lists(
        st.sampled_from(["title", "labels", "hold", "release", "tick", "ring", "cancel", "requeue"]), max_size=10
    ),
    asked=st.lists(st.integers(min_value=-5, max_value=200), min_size=1, max_size=6),
)
def test_c3_explain_at_a_moment_shows_only_what_stood_then(edits, asked):
    table = bench(policy=OPEN_TO_ALL)
    (filed,) = table.file({"title": "First title", "labels": ["one"]})
    born = table.clock.now
    for number, word in enumerate(edits):
        table.clock.forward(10)
        named = {"actor": "ana", "reason": f"because {number}"}
        acts = {
            "title": lambda named=named, number=number: operate.edit(
                table.kit, filed.entry_id, {"title": f"Title {number}"}, **named
            ),
            "labels": lambda named=named, number=number: operate.edit(
                table.kit, filed.entry_id, {"labels": [f"l{number}"]}, **named
            ),
            "tick": table.tick,
            "ring": lambda: table.ring(1),
        }
        try:
            acts[word]() if word in acts else getattr(operate, word)(table.kit, filed.entry_id, **named)
        except Exception as error:  # noqa: BLE001 - an act that has no place there leaves everything as it was
            assert type(error).__name__ == "ConflictError"
    with table.kit.store.read() as unit:
        events, moment = unit.history(filed.entry_id), unit.now()
    for seconds in asked:
        at = moment - timedelta(seconds=table.clock.now - born - seconds)
        if at < events[0].at:
            with pytest.raises(NotFoundError, match="did not exist at"):
                explain.explain(table.kit, filed.entry_id, at=at)
            continue
        found = explain.explain(table.kit, filed.entry_id, at=at)
        sets = [upcast(event).get("set", {}) for event in events if event.at <= at]
        title = [each["title"] for each in sets if "title" in each][-1]
        reason = [each["reason"] for each in sets if "reason" in each][-1]
        assert (found.entry.title, found.entry.reason, found.past) == (title, reason, True)
        assert found.entry.seq == len(sets)
        assert all(row["at"] <= at for row in found.receipts)
    table.kit.store.close()


def test_c3_explain_at_a_moment_judges_by_the_policy_of_then():
    table = bench()
    (filed,) = table.file({"labels": []})
    with table.kit.store.read() as unit:
        first = unit.now()
    table.clock.forward(60)
    texts = table.texts.texts
    table.texts.texts = [replace(texts[0], body=OPEN_TO_ALL.replace("version: 1", "version: 2")), *texts[1:]]
    table.tick()
    assert explain.explain(table.kit, filed.entry_id).eligibility == {"ELIG-LABEL": True}
    then = explain.explain(table.kit, filed.entry_id, at=first)
    assert then.eligibility == {"ELIG-LABEL": False}
    assert then.policy.startswith("1 (")
    assert then.entry.status == "blocked"
    assert then.reasons[0][0] == "NOT_ELIGIBLE"
    assert then.remedies == []


def test_c3_explain_at_after_an_entry_was_retired_says_when_it_left():
    table = bench(policy=OPEN_TO_ALL)
    (filed,) = table.file({"title": "Gone"})
    table.run(3)
    with table.kit.store.read() as unit:
        before = unit.now()
    table.clock.forward(90_000)
    retire.cleanup(table.kit, retention_days=1)
    table.clock.forward(60)
    with table.kit.store.read() as unit:
        later = unit.now()
    with pytest.raises(NotFoundError, match="had left the backlog"):
        explain.explain(table.kit, filed.entry_id, at=later)
    assert explain.explain(table.kit, filed.entry_id, at=before).entry.status == "completed"


def test_c3_a_receipt_of_before_the_entry_came_back_explains_nothing():
    table = bench(policy=OPEN_TO_ALL, slots=0)
    (filed,) = table.file({})
    table.tick()
    operate.cancel(table.kit, filed.entry_id, actor="ana", reason="no")
    table.clock.forward(60)
    operate.requeue(table.kit, filed.entry_id, actor="ana", reason="yes")
    with table.kit.store.read() as unit:
        now = unit.now()
    found = explain.explain(table.kit, filed.entry_id, at=now)
    assert (found.entry.status, found.scored, found.reasons) == ("queued", None, ())
    dispatch.tick(table.kit)
    table.clock.forward(1)
    with table.kit.store.read() as unit:
        later = unit.now()
    assert explain.explain(table.kit, filed.entry_id, at=later).reasons[0][0] == "NO_WORKER"


def test_c3_the_policy_of_a_moment_is_the_one_that_was_in_force_however_often_it_came_back():
    table = bench()
    texts, bodies, moments = table.texts.texts, [], []
    for number, title in enumerate(["a", "b", "a", "c", "b", "a"]):
        table.clock.forward(100)
        body = POLICY.replace("version: 1", f"version: {ord(title) - 95}")
        table.texts.texts = [replace(texts[0], body=body), *texts[1:]]
        dispatch.tick(table.kit)
        table.clock.forward(1)
        with table.kit.store.read() as unit:
            moments.append(unit.now())
        bodies.append((number, body))
    with table.kit.store.read() as unit:
        for (number, body), moment in zip(bodies, moments, strict=True):
            enacted = in_force(unit, "prod", moment)
            assert unit.definition("prod", "policy", enacted["hash"])["body"] == body
            assert (enacted["until"] is None) == (number == len(bodies) - 1)
        assert in_force(unit, "prod", moments[0] - timedelta(days=1)) is None, "nobody knows, and nobody says so"


def test_c3_after_an_upgrade_only_what_is_in_force_is_known_and_earlier_moments_are_not(tmp_path):
    from alembic import command

    from backlog_worker.store import opened

    store = opened(f"sqlite:///{tmp_path / 'b.db'}")
    with store.connected() as connection:
        config = migrate._config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0003")
        connection.commit()
    with store.begin() as unit:
        for number, (digest, live) in enumerate((("a", 0), ("b", 1))):
            unit.run(
                "INSERT INTO definitions (env, kind, hash, name, version, body, contracts, live, at, author) VALUES"
                " ('prod', 'policy', :hash, 'policy', '1', 'x', '{}', :live, {now} - :ago, 'ana')",
                hash=digest, live=live, ago=100 - 50 * number,
            )  # fmt: skip
    migrate.upgrade(store)
    with store.read() as unit:
        assert in_force(unit, "prod", unit.now())["hash"] == "b"
        assert in_force(unit, "prod", unit.now() - timedelta(seconds=70)) is None
    with pytest.raises(Exception, match="insert only"), store.begin() as unit:
        unit.run("UPDATE enactments SET hash = 'a'")


def test_c3_a_filter_means_the_same_for_rows_and_for_what_is_left_of_them():
    table = bench(policy=OPEN_TO_ALL)
    table.file(
        {"title": "Login", "owner": "ana", "labels": ["x"]}, {"title": "Other", "category": "risk", "labels": []}
    )
    with table.kit.store.read() as unit:
        entries = unit.search("prod", parsed(""))
        for text in (
            "login",
            "owner:ana",
            "-owner:ana",
            "label:x,y",
            "category:risk",
            "age:<1d",
            "-age:<1d",
            "url:,x",
            "key:none",
        ):
            wanted = parsed(text)
            rows = {each.id for each in unit.search("prod", wanted)}
            assert {each.id for each in entries if matches(wanted, each, unit.now())} == rows, text
