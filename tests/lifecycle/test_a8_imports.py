"""A8: a bad record costs itself alone and is named; the same issue is the same entry, and another one never is."""

import json
from pathlib import Path

import pytest

from backlog_worker.cli import imports
from backlog_worker.domain import dedupe, tracker
from backlog_worker.domain.errors import InvalidFileError
from backlog_worker.domain.order import ordered
from backlog_worker.integrations import files, sheet
from backlog_worker.lifecycle import audit, watch
from backlog_worker.testing import bench, draft

AT = "2026-11-01T00:00:00Z"
HOST = "https://github.com/acme/platform/issues"


def issue(number, title="An issue", **more):
    address = {} if "url" in more or "html_url" in more else {"url": f"{HOST}/{number}"}
    return {
        "number": number,
        "title": title,
        "body": "b",
        "labels": [{"name": "ai-ok"}],
        "createdAt": AT,
        **address,
        **more,
    }


@pytest.fixture
def table():
    made = bench()
    yield made
    assert watch.verify(made.kit) == []
    assert list(audit.verify(made.kit)) == []


@pytest.fixture(scope="module")
def shared():
    """A bench for tests that each file something of their own."""
    made = bench()
    yield made
    assert watch.verify(made.kit) == []
    assert list(audit.verify(made.kit)) == []


@pytest.fixture
def put(tmp_path):
    def _put(name, content):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return _put


def load(table, path, *, dry_run=False):
    found = imports.filed(table.kit, path, actor="ana", dry_run=dry_run)
    return sorted(found, key=lambda each: each.place.record)


def said(found):
    return sorted(
        (each.place.record, each.new, each.status, each.bars, bool(each.error), each.passed) for each in found
    )


GOOD = json.dumps(issue(1, "before")), json.dumps(issue(99, "behind"))


def raw(comments, title="a"):
    return f'{{"number": 7, "title": "{title}", "comments": {comments}, "url": "{HOST}/7"}}'


DEEP = "[" * 100_000 + "]" * 100_000
# What stands between two good records; the record is refused, the others are filed.
BAD = {
    "empty title": json.dumps(issue(7, "")),
    "blank title": json.dumps(issue(7, " \t ")),
    "title of a number": json.dumps(issue(7, 5)),
    "title of a list": json.dumps(issue(7, ["a"])),
    "title null": json.dumps(issue(7, None)),
    "title of an object": json.dumps(issue(7, {"a": 1})),
    "title too long": json.dumps(issue(7, "x" * 513)),
    "title with NUL": json.dumps(issue(7, "a\x00b")),
    "title half a character": raw("[]", title="a\\ud800b"),
    "body half a character": raw('"\\udc00"'),
    "body with NUL": raw('"\\u0000"'),
    "a name with NUL": raw('[{"\\u0000": 1}]'),
    "NaN": raw("[NaN]"),
    "infinity": raw("[-Infinity]"),
    "a number beyond all": raw("[1e999]"),
    "5000 digits": raw("9" * 5000),
    "2000 digits": raw("9" * 2000),
    "100,000 lists": raw(DEEP),
    "80 lists": raw("[" * 80 + "]" * 80),
    "a name twice": '{"number": 7, "title": "a", "title": "b"}',
    "a comma too many": '{"number": 7, "title": "a",}',
    "no value": '{"number": 7, "title": }',
    "single quotes": "{'number': 7}",
    "no quotes": "{number: 7}",
    "undefined": '{"number": undefined}',
    "a bad escape": '{"number": 7, "title": "\\x"}',
    "an open control character": '{"number": 7, "title": "a\tb"}',
    "labels a number": json.dumps(issue(7, labels=5)),
    "labels an object": json.dumps(issue(7, labels={"a": 1})),
    "labels of numbers": json.dumps(issue(7, labels=[1])),
    "labels without names": json.dumps(issue(7, labels=[{"id": 1}])),
    "too many labels": json.dumps(issue(7, labels=[f"l{n}" for n in range(65)])),
    "a label too long": json.dumps(issue(7, labels=["x" * 301])),
    "a label with NUL": json.dumps(issue(7, labels=["a\x00"])),
    "no such date": json.dumps(issue(7, createdAt="yesterday")),
    "a date of a number": json.dumps(issue(7, createdAt=46015)),
    "a date of digits": json.dumps(issue(7, createdAt="46015")),
    "a date of a decimal": json.dumps(issue(7, createdAt="46015,5")),
    "the 31st of February": json.dumps(issue(7, createdAt="2026-02-31")),
    "before the year 1": json.dumps(issue(7, createdAt="0001-01-01T00:00:00+14:00")),
    "after the year 9999": json.dumps(issue(7, createdAt="9999-12-31T23:59:59-14:00")),
    "a date of a list": json.dumps(issue(7, createdAt=["2026"])),
    "an address of a number": json.dumps(issue(7, url=5)),
    "an address too long": json.dumps(issue(7, url="https://x/" + "a" * 2001)),
    "an assignee of a list": json.dumps(issue(7, assignees=[["ana"]])),
    "an author of a list": json.dumps(issue(7, author=["li"])),
    "an author too long": json.dumps(issue(7, author="x" * 301)),
    "an input too large": json.dumps(issue(7, body="x" * 300_000)),
    "a list": "[[1]]",
    "a text": '"text"',
    "a number": "5",
    "null": "null",
    "true": "true",
    "nothing": "{}",
    "an unknown field": json.dumps({"title": "a", "prioritty": "high"}),
    "signals NaN": '{"title": "a", "signals": {"risk": NaN}}',
    "signals called nan": json.dumps({"title": "a", "signals": {"risk": "nan"}}),
    "signals called infinite": json.dumps({"title": "a", "signals": {"risk": "-Infinity"}}),
    "signals a text": json.dumps({"title": "a", "signals": {"risk": "much"}}),
    "signals too many": json.dumps({"title": "a", "signals": {f"s{n}": 1 for n in range(21)}}),
    "a window of nonsense": json.dumps({"title": "a", "constraints": {"windows": ["whenever you like"]}}),
    "a window in no zone": json.dumps({"title": "a", "constraints": {"windows": ["mon-fri 08:00-20:00 Mars/Base"]}}),
    "an unknown constraint": json.dumps({"title": "a", "constraints": {"window": []}}),
    "a dependency on nothing": json.dumps(issue(7, depends_on=["#4711"])),
    "a dependency on itself": json.dumps(issue(7, depends_on=["#7"])),
    "dependencies a number": json.dumps(issue(7, depends_on={"a": 1})),
    "a key too long": json.dumps({"title": "a", "dedupe_key": "k" * 301}),
    "an empty key": json.dumps({"title": "a", "dedupe_key": ""}),
    "an input of a list": json.dumps({"title": "a", "input": [1]}),
    "gitlab without a title": json.dumps({"iid": 7, "title": None, "web_url": "https://gitlab.com/a/b/-/issues/7"}),
    "jira without a summary": json.dumps({"key": "A-7", "fields": {}}),
    "jira with fields of a text": json.dumps({"key": "A-7", "fields": "none"}),
}  # fmt: skip


def test_the_table_of_bad_records_is_long():
    assert len(BAD) >= 60


@pytest.mark.parametrize("form", ["array", "pretty", "lines", "paginated"])
def test_a_bad_record_is_named_and_its_neighbours_are_filed(table, put, form):
    for at, (name, bad) in enumerate(BAD.items()):
        good = [json.dumps(issue(at * 1000 + n, f"{name} {n}", url=f"https://github.com/{form}/r/issues/{at * 1000 + n}"))
                for n in (1, 2)]  # fmt: skip
        texts = {
            "array": ("f.json", f"[{good[0]}, {bad}, {good[1]}]"),
            "pretty": ("f.json", f"[\n{good[0]},\n{bad},\n{good[1]}\n]\n"),
            "lines": ("f.jsonl", f"{good[0]}\n{bad}\n{good[1]}\n"),
            "paginated": ("f.json", f"[{good[0]}][{bad}][{good[1]}]"),
        }
        if form == "paginated" and bad == "[[1]]":
            continue
        path = put(*texts[form])
        dry = load(table, path, dry_run=True)
        found = load(table, path)
        assert said(dry) == said(found), name
        filed = [each for each in found if not each.error]
        assert [(each.place.record, each.status) for each in filed] == [(1, "queued"), (3, "queued")], (name, found)
        (refused,) = (each for each in found if each.error)
        line = {"array": 1, "paginated": 1}.get(form, 2 + (form == "pretty"))
        assert (refused.place.record, refused.place.line) == (2, line), name
        if '"number": 7' in bad and ', "' in bad and "JSON" not in refused.error and "twice" not in refused.error:
            assert refused.number == "7", (name, refused)
        assert "Value error" not in refused.error
        assert "Traceback" not in refused.error


def test_a_real_database_takes_what_the_check_lets_through(postgres_url, put):
    made = bench(url=postgres_url)
    texts = [
        f'{{"number": {n}, "title": "a {n}", "comments": {value}, "url": "{HOST}/{n}"}}'
        for n, value in enumerate(
            [
                '["\\ud83d\\ude00"]',
                "[" * 40 + "]" * 40,
                "[1e308, -0.0, 9007199254740993]",
                '["\\u2028\\u202e"]',
                '[{"": 1}]',
            ]
        )
    ]
    found = load(made, put("a.jsonl", "\n".join(texts)))
    assert [each.error for each in found] == [""] * 5
    bad = load(made, put("b.jsonl", "\n".join([json.dumps(issue(90)), *BAD.values(), json.dumps(issue(91))])))
    assert sum(not each.error for each in bad) == 2
    made.kit.store.close()


def test_what_a_database_refuses_is_refused_alone(table, put, monkeypatch):
    from backlog_worker.domain.errors import StoreError
    from backlog_worker.lifecycle import intake

    write = intake._write

    def _picky(unit, made):
        if any(each.entry.title == "poison" for each in made):
            raise StoreError("the database does not take this")
        return write(unit, made)

    monkeypatch.setattr(intake, "_write", _picky)
    found = load(
        table, put("a.json", json.dumps([issue(n, "poison" if n in {3, 7} else f"t{n}") for n in range(1, 11)]))
    )
    assert {each.number or each.place.record for each in found if each.error} == {"3", "7"}
    assert sum(each.new for each in found) == 8


ENDS = {
    "cut off": ("f.json", b'[%s, {"tit', "cut off"),
    "no end": ("f.json", b"[%s", "does not end"),
    "nonsense behind": ("f.json", b"[%s]}", "expected"),
    "an open string": ("f.json", b'[%s, {"title": "a}]', "does not end"),
    "a line cut off": ("f.jsonl", b'%s\n{"tit', "not JSON at line 2"),
}


@pytest.mark.parametrize("name", ENDS)
def test_what_stands_before_the_place_where_a_file_breaks_is_filed(shared, put, name):
    file, text, words = ENDS[name]
    path = put(file, text % GOOD[0].encode())
    for dry_run in (True, False):
        first, last = load(shared, path, dry_run=dry_run)
        assert not first.error
        assert words in last.error
        assert last.place.record == 2


def test_a_file_of_which_nothing_can_be_read_is_an_error(table, put):
    for name, text in (("a.json", "nonsense"), ("a.csv", ""), ("a.csv", "Titel\nx\n"), ("a.yml", "a: 1\n")):
        with pytest.raises(InvalidFileError):
            load(table, put(name, text))


def test_bytes_that_are_no_utf_8_cost_their_record_alone(table, put):
    lines = [json.dumps(issue(n, title), ensure_ascii=False) for n, title in enumerate(("a", "Grüße", "b"), start=1)]
    found = load(table, put("a.jsonl", "\n".join(lines).encode("latin-1")))
    assert [(each.number, each.error) for each in found if each.error] == [("2", "title: a text that is not UTF-8")]
    rows = load(table, put("a.csv", "title\nGrüße\nfine\n".encode("latin-1")))
    assert [bool(each.error) for each in rows] == [True, False]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le"])
def test_the_marks_of_windows_are_understood(shared, put, encoding):
    mark = b"\xff\xfe" if encoding == "utf-16-le" else b""
    text = json.dumps([issue(1, "Grüße")], ensure_ascii=False)
    assert load(shared, put("a.json", mark + text.encode(encoding)))[0].title == "Grüße"
    assert load(shared, put("a.csv", mark + "title;labels\r\nÄrger;a,b\r\n".encode(encoding)))[0].title == "Ärger"


def test_a_record_that_is_too_long_is_passed_over(table, put):
    long = json.dumps({"title": "a", "input": {"body": "x" * 5_000_000}})
    found = load(table, put("a.json", f"[{GOOD[0]},{long},{GOOD[1]}]"))
    assert [bool(each.error) for each in found] == [False, True, False]
    found = load(table, put("a.jsonl", f"{GOOD[0]}\n{long}\n{GOOD[1]}"))
    assert sum(bool(each.error) for each in found) == 1


# -- keys


SAME = [
    *("https://github.com/acme/platform/issues/1", "https://github.com/Acme/Platform/issues/1"),
    *("https://GitHub.com/ACME/platform/issues/1", "http://www.github.com/acme/platform/issues/1/"),
    *("https://github.com/acme/platform/issues/1#issuecomment-5", "https://github.com/acme/platform/issues/1?a=b"),
]
OTHER = [
    *("https://github.com/acme/platform/issues/2", "https://ghe.acme.com/acme/platform/issues/1"),
    *("https://ghe.acme.com:8443/acme/platform/issues/1", "https://gitlab.com/acme/platform/-/issues/1"),
    *("https://git.acme.com/acme/platform/-/issues/1", "https://gitlab.com/acme/sub/platform/-/issues/1"),
    *("https://acme.atlassian.net/browse/PLATFORM-1", "https://github.com/acme/platform-1/issues/1"),
]


def test_keys_know_the_host_and_fold_the_case():
    assert {dedupe.key_of(each) for each in SAME} == {"github:acme/platform#1"}
    keys = [dedupe.key_of(each) for each in OTHER]
    assert "" not in keys
    assert len({*keys, "github:acme/platform#1"}) == len(OTHER) + 1
    assert dedupe.key_of("https://example.org/1") == ""
    for key in ("github:Acme/Platform#1", "GitHub:github.com/acme/platform#1", "github:acme/platform#1"):
        assert dedupe.folded(key) == "github:acme/platform#1"
    assert dedupe.folded("manual:AbC#x") == "manual:AbC#x"


def test_an_issue_is_one_entry_however_its_address_is_written(table, put):
    found = load(
        table, put("a.json", json.dumps([issue(1, url=each) for each in SAME] + [issue(1, url=each) for each in OTHER]))
    )
    assert len({each.entry_id for each in found}) == 1 + len(OTHER)
    again = load(table, put("b.json", json.dumps([{"title": "An issue", "dedupe_key": "github:ACME/platform#1"}])))
    assert again[0].entry_id == found[0].entry_id


def test_records_without_an_address_are_the_same_only_where_they_say_the_same(table, put):
    bare = {"number": 1, "title": "Add a readme", "labels": []}
    many = [
        *(put("x.json", json.dumps([bare])), put("y.json", json.dumps([bare]))),
        *(
            put("z.json", json.dumps([{**bare, "title": "Crash"}])),
            put("v.json", json.dumps([{**bare, "createdAt": AT}])),
        ),
        *(put("w.json", json.dumps([{**bare, "body": "b"}])), put("u.csv", "title\nAdd a readme\n")),
    ]
    first = [load(table, path)[0] for path in many]
    assert all(each.new for each in first)
    assert len({each.entry_id for each in first}) == len(many)
    assert [load(table, path)[0].entry_id for path in many] == [each.entry_id for each in first]


FORMER = [  # what an earlier release stored, and what is imported now: the same or not
    ({"dedupe_key": "github:Acme/Platform#1", "url": "https://github.com/Acme/Platform/issues/1"},
     issue(1, url="https://github.com/Acme/Platform/issues/1"), True),
    ({"dedupe_key": "github:acme/platform#1", "url": "https://ghe.acme.com/acme/platform/issues/1"},
     issue(1, url="https://ghe.acme.com/acme/platform/issues/1"), True),
    ({"dedupe_key": "github:acme/platform#1", "url": "https://github.com/acme/platform/issues/1"},
     issue(1, url="https://ghe.acme.com/acme/platform/issues/1"), False),
    ({"dedupe_key": "github:unknown#1", "url": "", "title": "An issue"}, {"number": 1, "title": "An issue", "labels": []}, True),
    ({"dedupe_key": "github:unknown#1", "url": "", "title": "An issue"}, {"number": 1, "title": "Another", "labels": []}, False),
]  # fmt: skip


@pytest.mark.parametrize("retired", [False, True])
@pytest.mark.parametrize("case", FORMER)
def test_what_an_earlier_release_filed_is_known(table, put, monkeypatch, case, retired):
    from backlog_worker.lifecycle import operate, retire, send

    before, now, same = case
    monkeypatch.setattr(dedupe, "folded", lambda key: key)
    (old,) = table.file(draft(**before))
    monkeypatch.undo()
    if retired:
        operate.cancel(table.kit, old.entry_id, actor="ana", reason="no")
        send.send(table.kit)
        table.clock.forward(400 * 86400)
        retire.cleanup(table.kit, retention_days=1, dry_run=False)
        with table.kit.store.read() as unit:
            assert unit.entry(old.entry_id) is None
    dry, found = (
        load(table, put("a.json", json.dumps([now])), dry_run=True),
        load(table, put("a.json", json.dumps([now]))),
    )
    assert (found[0].entry_id == old.entry_id) == same
    assert found[0].new == dry[0].new == (not same)


# -- forms


def test_a_title_is_measured_in_characters(table, put):
    found = load(table, put("a.json", json.dumps([issue(1, "語" * 512), issue(2, "語" * 513)])))
    assert sorted((each.number, each.error.partition(" (got")[0]) for each in found) == [
        ("", ""), ("2", "title: a title may have at most 512 characters, this one has 513")]  # fmt: skip


GH = issue(5, "Rate limit", updatedAt="2026-11-02T00:00:00Z", author={"login": "li"}, assignees=[{"login": "ana"}],
           labels=[{"name": "P1"}, {"name": "team:api"}, {"name": "ai-ok"}], state="OPEN")  # fmt: skip
REST = {
    "number": 5, "title": "Rate limit", "body": "b", "html_url": f"{HOST}/5", "state": "open", "comments": 4,
    "url": "https://api.github.com/repos/acme/platform/issues/5", "created_at": AT, "closed_at": None,
    "updated_at": "2026-11-02T00:00:00Z", "user": {"login": "li"}, "assignee": {"login": "ana"},
    "assignees": [{"login": "ana"}], "labels": [{"id": 1, "name": "P1"}, {"name": "team:api"}, {"name": "ai-ok"}],
    "milestone": {"title": "v1"}, "author_association": "MEMBER",
}  # fmt: skip


def test_a_rest_dump_is_what_gh_gives():
    rest = dict(tracker.drafted(REST))
    assert rest.pop("author_association") == "MEMBER"
    assert rest == tracker.drafted(GH)
    only_api = {name: value for name, value in REST.items() if name != "html_url"}
    assert tracker.drafted(only_api)["dedupe_key"] == "github:acme/platform#5"
    enterprise = {**only_api, "url": "https://ghe.acme.com/api/v3/repos/acme/platform/issues/5"}
    assert tracker.drafted(enterprise)["url"] == "https://ghe.acme.com/acme/platform/issues/5"


def test_gitlab_and_jira_are_read():
    gitlab = {"iid": 7, "title": "Slow", "description": "d", "state": "opened", "labels": ["ai-ok", "P0"], "created_at": AT,
              "web_url": "https://gitlab.com/Acme/sub/app/-/issues/7", "author": {"username": "li"},
              "assignees": [{"username": "ana"}], "due_date": "2026-12-24"}  # fmt: skip
    made = tracker.drafted(gitlab)
    assert (made["dedupe_key"], made["priority"], made["owner"], made["author"], made["due_date"]) == (
        "gitlab:gitlab.com/acme/sub/app#7", "high", "ana", "li", "2026-12-24")  # fmt: skip
    text = {"type": "doc", "content": [{"type": "paragraph", "content": [{"type": "text", "text": "It fails"}]}]}
    jira = {"key": "APP-7", "self": "https://acme.atlassian.net/rest/api/3/issue/10007", "fields": {
        "summary": "Slow", "description": text, "labels": ["ai-ok"], "priority": {"name": "Highest"}, "created": AT,
        "assignee": {"displayName": "Ana"}, "duedate": "2026-12-24", "status": {"statusCategory": {"key": "new"}}}}  # fmt: skip
    made = tracker.drafted(jira)
    assert (made["dedupe_key"], made["url"], made["priority"], made["owner"], made["input"]["body"]) == (
        "jira:acme.atlassian.net/APP-7", "https://acme.atlassian.net/browse/APP-7", "high", "Ana", "It fails")  # fmt: skip


def test_containers_of_every_kind_give_the_same_records(table, put):
    records = [issue(n, f"t{n}") for n in range(1, 5)]
    a, b = json.dumps(records[:2]), json.dumps(records[2:])
    flat = [json.dumps(each) for each in records]
    forms = {
        "array.json": json.dumps(records), "paginated.json": a + b, "apart.json": f"{a}\n\n{b}\n", "slurped.json": f"[{a},{b}]",
        "lines.jsonl": "\n".join(flat), "lines.json": "\n".join(flat), "pages.jsonl": f"{a}\n{b}\n", "crlf.jsonl": "\r\n".join(flat),
        "search.json": json.dumps({"total_count": 4, "items": records}), "jira.json": json.dumps({"issues": records}),
        "list.yml": "".join(f"- {each}\n" for each in flat), "indented.yml": "# mine\n---\n" + "".join(f"  - {each}\n" for each in flat),
        "flow.yml": json.dumps(records),
    }  # fmt: skip
    for name, text in forms.items():
        found = list(files.records(put(name, text)))
        assert [dict(each) for _, each in found] == [dict(tracker.drafted(each)) for each in records], name
        assert [place.record for place, _ in found] == [1, 2, 3, 4], name


CLOSED = [
    *(issue(2, state="CLOSED"), issue(2, state="closed"), issue(2, state="MERGED"), issue(2, closed=True)),
    *({**REST, "state": "closed"}, {**REST, "state": None, "closed_at": AT}),
    *({**REST, "pull_request": {"url": "x"}}, {**REST, "pull_request": {}}),
    {"iid": 2, "title": "a", "state": "closed", "web_url": "https://gitlab.com/a/b/-/issues/2"},
    {"title": "a plain record", "state": "closed"},
    {"key": "A-2", "fields": {"summary": "a", "status": {"statusCategory": {"key": "done"}}}},
]


def test_what_is_closed_or_no_issue_is_passed_and_said(table, put):
    path = put("a.json", json.dumps([issue(1), *CLOSED]))
    for dry_run in (True, False):
        found = load(table, path, dry_run=dry_run)
        assert [bool(each.passed) for each in found] == [False, *[True] * len(CLOSED)]
    assert table.statuses() == {"queued": 1}


# -- dependencies


def test_records_depend_on_each_other_in_any_order(table, put):
    records = [
        issue(1, depends_on=["#3"]), issue(2, blocked_by=["acme/platform#1", f"{HOST}/3"]), issue(3), issue(4, state="closed"),
        issue(5, depends_on=[4]), issue(6, depends_on=["#7"]), issue(7, depends_on=["github:Acme/platform#8"]), issue(8, depends_on="#6"),
        issue(9, depends_on=["#6"]), issue(10, depends_on=["#4711"]), issue(11, depends_on=["#10"]), issue(12, depends_on=["#12"]),
    ]  # fmt: skip
    for path in (put("a.json", json.dumps(records)), put("b.json", json.dumps(records[::-1]))):
        dry, found = load(table, path, dry_run=True), load(table, path)
        assert said(dry) == said(found)
        numbers = {each.number: each.error for each in found if each.error}
        assert set(numbers) == {"6", "7", "8", "9", "10", "11", "12"}
        for number in "678":
            assert "in a cycle" in numbers[number]
            assert all(f"#{each}" in numbers[number] for each in "678")
        assert "depends on itself" in numbers["12"]
        assert "github:acme/platform#4711" in numbers["10"]
        assert "github:acme/platform#10" in numbers["11"]
    ids = {
        each.place.record: each.entry_id for each in load(table, put("a.json", json.dumps(records))) if not each.error
    }
    with table.kit.store.read() as unit:
        assert unit.linked(ids[1], "depends_on") == [ids[3]]
        assert sorted(unit.linked(ids[2], "depends_on")) == sorted([ids[1], ids[3]])
        assert unit.linked(ids[5], "depends_on") == []
        assert unit.entry(ids[5]).status == "queued"


def test_rows_of_a_table_depend_on_each_other_by_reference_or_title(table, put):
    text = 'external_ref,title,Blocked by\n1,Build it,"2, Plan it"\n2,Buy it,\n3,Plan it,\n4,Twice,\n5,Twice,\n6,Which,Twice\n'
    found = load(table, put("a.csv", text))
    assert {each.place.record: "several" in each.error for each in found if each.error} == {6: True}
    ids = {each.place.record: each.entry_id for each in found}
    with table.kit.store.read() as unit:
        assert sorted(unit.linked(ids[1], "depends_on")) == sorted([ids[2], ids[3]])


def test_a_chain_longer_than_a_batch_is_filed_whole(table, put):
    records = [issue(n, f"t{n}", depends_on=[f"#{n + 1}"]) for n in range(1, 1300)] + [issue(1300)]
    found = load(table, put("a.json", json.dumps(records)))
    assert sum(each.new for each in found) == 1300
    assert table.statuses() == {"blocked": 1299, "queued": 1}


def test_the_order_puts_needs_first_and_finds_every_circle():
    assert ordered({"a": ["b", "x"], "b": ["c"], "c": []}) == (["c", "b", "a"], {})
    keys, circles = ordered({"a": ["b"], "b": ["a"], "c": ["a"], "d": ["d"]})
    assert keys == ["c"]
    assert set(circles) == {"a", "b", "d"}
    long = {str(n): [str(n + 1)] for n in range(50_000)}
    assert len(ordered(long)[0]) == 50_000


# -- tables


def rows(table, put, text):
    return [record for _, record in files.records(put("t.csv", text))]


def test_a_table_needs_a_title_only(table, put):
    found = load(table, put("a.csv", "title\nFix the login\n"))
    with table.kit.store.read() as unit:
        entry = unit.entry(found[0].entry_id)
        assert unit.input(entry.id, entry.input_sha256) == {"title": "Fix the login"}
    assert entry.created_at


QUIRKS = {
    "semicolons": ("title;labels;priority\r\na;x,y;high\r\n", {"title": "a", "labels": ["x", "y"], "priority": "high"}),
    "tabs": ("title\tlabels\na\tx;y\n", {"title": "a", "labels": ["x", "y"]}),
    "sep": ("sep=;\ntitle;body\na;b,c\n", {"title": "a", "input": {"body": "b,c"}}),
    "a header of people": ("Title,Due Date,Description\na,2026-12-24,b\n", {"title": "a", "due_date": "2026-12-24", "input": {"body": "b"}}),
    "lines within": ('title,body\na,"one\ntwo"\n', {"title": "a", "input": {"body": "one\ntwo"}}),
    "quotes within": ('title,body\na,"say ""hi"""\n', {"title": "a", "input": {"body": 'say "hi"'}}),
    "labels in quotes": ('title,labels\na,"x,""y, z"";w"\n', {"title": "a", "labels": ["x", "y, z", "w"]}),
    "labels by lines": ('title,labels\na,"x\ny"\n', {"title": "a", "labels": ["x", "y"]}),
    "decimal commas": ("title;signals.risk\na;0,5\n", {"title": "a", "signals": {"risk": "0.5"}}),
    "empty columns": ("title,,\na,,\n", {"title": "a"}),
    "windows": ('title,windows\na,"mon,wed 08:00-20:00; sat"\n', {"title": "a", "constraints": {"windows": ["mon,wed 08:00-20:00", "sat"]}}),
    "nested": ("title,constraints.windows,input.Team\na,sat,web\n", {"title": "a", "constraints": {"windows": ["sat"]}, "input": {"Team": "web"}}),
    "sign-off": ("title;sign_off_before\na;publish,deploy\n", {"title": "a", "constraints": {"sign_off_before": ["publish", "deploy"]}}),
}  # fmt: skip


@pytest.mark.parametrize("name", QUIRKS)
def test_tables_of_spreadsheets_are_read_as_they_are_written(shared, put, name):
    text, wanted = QUIRKS[name]
    (record,) = rows(shared, put, text)
    assert {key: value for key, value in record.items() if key != "dedupe_key"} == wanted
    assert load(shared, put("t.csv", text))[0].error == ""


def test_empty_rows_are_no_records(table, put):
    assert len(rows(table, put, "title,labels\n,\na,\n\n , \nb,\n")) == 2


HEADERS = {
    "Titel,labels\na,b\n": 'column 1 is called "titel": did you mean "title"?',
    "title,lables\na,b\n": 'column 2 is called "lables": did you mean "labels"?',
    "title,zzz\na,b\n": 'column 2 is called "zzz": no such field',
    "title,Title\na,b\n": 'columns 1 and 2 are both called "title"',
    "labels\na\n": "there is no column title",
}


@pytest.mark.parametrize("text", HEADERS)
def test_an_unknown_column_is_named(shared, put, text):
    with pytest.raises(InvalidFileError) as caught:
        load(shared, put("a.csv", text))
    assert HEADERS[text] in str(caught.value)


BAD_ROWS = [
    *('"open', '"a"b,c', "a,b,c,d", ",only a label", "a,b,9e999", "a,b,x", "\x00,b"),
    *('"a,b\n', '"', '"a ""b'),
]


def test_a_bad_row_is_named_by_its_line_and_costs_itself_alone(table, put):
    for row in BAD_ROWS:
        text = f'title,labels,signals.risk\nfirst,"a\nb",1\n{row}\nsecond,c,2\nthird,"d",3\n'
        found = load(table, put("a.csv", text))
        assert {each.title for each in found if not each.error} >= {"first", "second", "third"}, row
        refused = [each for each in found if each.error]
        assert refused[0].place == "a.csv:4", row
        assert {each.place.line for each in refused} <= {4, 5}, row


def test_every_column_is_documented():
    text = Path("docs/configuration.md").read_text()
    assert not [name for name in (*sheet.COLUMNS, *sheet.OPEN) if f"`{name}" not in text]


def test_a_bad_record_of_yaml_costs_itself_alone(table, put):
    text = "- title: a\n- title: [\n- &x title: b\n- title: c\n  labels: [x]\n- {title: d, 1: }\n- title: a\n  title: b\n- title: e\n"
    found = {each.place.line: (each.title, each.error) for each in load(table, put("a.yml", text))}
    assert {line for line, (_, error) in found.items() if error} == {2, 3, 6, 7}
    assert {title for title, error in found.values() if not error} == {"a", "c", "e"}


# -- dry runs


def test_a_dry_run_says_what_the_import_then_does(table, put):
    records = [
        json.dumps(issue(n % 700, f"t{n % 700}", depends_on=[f"#{n % 700 + 1}"] if n % 3 == 0 else []))
        for n in range(1, 1500)
    ]
    path = put("a.jsonl", "\n".join([*records, *BAD.values()]))
    for _ in range(2):
        dry, before = load(table, path, dry_run=True), table.statuses()
        found = load(table, path)
        assert said(dry) == said(found)
        assert [(each.title, each.reason) for each in dry] == [(each.title, each.reason) for each in found]
        assert before in ({}, table.statuses())
