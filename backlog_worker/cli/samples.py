"""Sample issues, as varied and messy as real ones, in the form of `gh issue list --json`.

The story of the seed: 340 issues, 60 of them specified before, three of those twice; some are not eligible, some fail
gates, some time out, some need a person, and a few are exported twice. The same number gives the same issues.
"""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

REPOSITORY = "acme/platform"
NUMBER = 340
TWICE = 5
SPECIFIED = 60 / 340
NOT_ELIGIBLE = 18 / 340

_AREAS = (
    ("login", "Safari 17.4", "src/auth/session.ts", "POST /api/session", "web"),
    ("search", "PostgreSQL 15.3", "src/search/index.py", "GET /api/search", "api"),
    ("billing", "Python 3.12", "billing/invoice.py", "POST /api/invoices", "pay"),
    ("export", "Node 20.11", "src/export/csv.js", "GET /v1/export", "web"),
    ("notifications", "Redis 7.2", "notify/worker.py", "POST /v1/notify", "api"),
    ("uploads", "Chrome 126", "src/upload/chunk.ts", "PUT /api/files", "web"),
    ("gateway", "Go 1.22", "gateway/limit.go", "GET /v1/health", "edge"),
    ("reports", "Firefox 128", "reports/weekly.py", "GET /api/reports", "data"),
)
_PEOPLE = ("ana", "li", "noor", "tomas", "ines", "kofi", "mara", "yuki")
_BUGS = (
    ("{Area} fails with a {code} after {n} minutes", "TimeoutError: {area} did not answer within {n}000 ms"),
    ("{Area} loses data when two people save", "ConflictError: version {n} is stale"),
    ("Crash in {area} for names with an apostrophe", "SyntaxError: unterminated string near 'O''Brien'"),
    ("{Area} hangs forever behind a proxy 😩", "ERROR upstream prematurely closed connection"),
    ("Wrong total in {area} at the end of the month", "AssertionError: expected {n}.00, got {n}.01"),
    ("{Area}: ünïcode is broken 🤯", "UnicodeDecodeError: 'utf-8' codec can't decode byte 0xe4"),
)
_WISHES = (
    "Allow {area} to be filtered by team",
    "Please add dark mode to {area} 🌙",
    "Support for webhooks in {area}",
    "{Area} should remember the last choice",
    "Bulk actions for {area}",
)


def issues(number: int = NUMBER, *, now: datetime | None = None) -> list[dict[str, Any]]:
    """Return so many different issues, and a few of them again at the end, as in real exports."""
    made = list(_issues(number, now or datetime.now(UTC)))
    return made + made[:: max(1, number // 5)][:TWICE]


def _issues(number: int, now: datetime) -> Iterator[dict[str, Any]]:
    specified, not_eligible = round(number * SPECIFIED), round(number * NOT_ELIGIBLE)
    kinds = ["specified"] * specified + ["stranger"] * not_eligible
    kinds += ["open"] * (number - len(kinds))
    chance = random.Random(340)  # noqa: S311 - sample data, the same every time
    chance.shuffle(kinds)
    seen = {"specified": 0, "open": 0, "stranger": 0}
    for at, kind in enumerate(kinds, start=1):
        issue = _issue(at, chance, now)
        seen[kind] += 1
        _label(issue, kind, seen[kind], chance)
        yield issue


def _issue(number: int, chance: random.Random, now: datetime) -> dict[str, Any]:
    area, version, path, route, team = chance.choice(_AREAS)
    words = {
        "area": area,
        "Area": area.capitalize(),
        "n": chance.randint(2, 59),
        "code": chance.choice((500, 502, 504)),
    }
    words |= {"version": version, "path": path, "route": route}
    created = now - timedelta(days=chance.expovariate(1 / 30), minutes=chance.randint(0, 1440))
    bug = chance.random() < 0.65  # noqa: PLR2004 - about two thirds of real issues are bugs
    if bug:
        title, error = chance.choice(_BUGS)
        body = _bug(words, error.format(**words), chance)
    else:
        title, body = chance.choice(_WISHES), _wish(words, chance)
    priority = chance.choices(("P0", "P1", "P2", "priority: high", "low", ""), (8, 30, 25, 7, 15, 15))[0]
    labels = [name for name in ("bug" if bug else "enhancement", priority, f"team:{team}") if name]
    return {
        "number": number,
        "title": title.format(**words),
        "body": body,
        "labels": [{"name": name} for name in labels],
        "createdAt": created.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "updatedAt": now.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "url": f"https://github.com/{REPOSITORY}/issues/{number}",
        "author": {"login": chance.choice(_PEOPLE)},
        "assignees": [{"login": chance.choice(_PEOPLE)}] if chance.random() < 0.3 else [],  # noqa: PLR2004 - most are not
    }


def _label(issue: dict[str, Any], kind: str, at: int, chance: random.Random) -> None:
    """Change an issue so that it plays its part in the story."""
    if kind == "specified":
        issue["labels"] += [{"name": "ai-ok"}, {"name": "spec-ready"}]
        times = 2 if at <= 3 else 1  # noqa: PLR2004 - the three of the seed
        issue["comments"] = [{"body": f"Specification: docs/specs/{issue['number']}-{n}.md"} for n in range(times)]
    elif kind == "stranger":
        issue["labels"] += [{"name": "wip"}] if at % 2 else []
    else:
        issue["labels"].append({"name": "ai-ok"})
        if at % 23 == 0:
            issue["body"] = chance.choice(("", "  \n", "see title", "+1", "same here!! 👍👍"))
        elif at % 37 == 0:
            issue["body"] = issue["body"] + "\n\n" + _log(chance)
        elif at % 41 == 0:
            issue["attachments"] = [{"name": "trace.har", "seconds": 30}]
        elif at % 31 == 0:
            issue["labels"].append({"name": "security"})


def _bug(words: dict[str, Any], error: str, chance: random.Random) -> str:
    expected = chance.choice(("The page loads.", "A message says what is wrong.", "Both changes are kept."))
    written = chance.choices((_form, _template, _prose, _grumble), (40, 25, 25, 10))[0]
    return written(words, error, expected, chance)


def _form(words: dict[str, Any], error: str, expected: str, chance: random.Random) -> str:
    """Return the text of a GitHub issue form, including a checklist unrelated to the problem."""
    return (
        "### Is there an existing issue for this?\n\n- [X] I have searched the existing issues\n"
        "- [X] I agree to follow the Code of Conduct\n\n"
        f"### Current Behavior\n\nSince the last release {words['area']} fails with {words['code']}.\n\n"
        f"### Expected Behavior\n\n{expected}\n\n"
        f"### Steps To Reproduce\n\n1. Open {words['area']}\n2. Wait {words['n']} minutes\n3. Press save\n\n"
        f"### Environment\n\n```markdown\n- OS: {chance.choice(('Ubuntu 22.04', 'macOS 14.2', 'Windows 11'))}\n"
        f"- Runtime: {words['version']}\n```\n\n"
        f"### Relevant log output\n\n```shell\n{error}\n    at save ({words['path']}:{words['n']}:7)\n```\n\n"
        "### Anything else?\n\n_No response_\n"
    )


def _template(words: dict[str, Any], error: str, expected: str, chance: random.Random) -> str:
    """Return the text of an older issue template, with its hints left in."""
    return (
        "<!-- Thank you for the report! Please search first. -->\r\n**Describe the bug**\r\n"
        f"{words['Area']} is broken in `{words['path']}`: it answers {words['code']}.\r\n\r\n"
        f"**To Reproduce**\r\nSteps to reproduce the behavior:\r\n1. Call `{words['route']}`\r\n2. Look at the log:"
        f"\r\n\r\n~~~\r\n{error}\r\n~~~\r\n\r\n**Expected behavior**\r\n{expected}\r\n\r\n"
        "**Screenshots**\r\nIf applicable, add screenshots to help explain your problem.\r\n\r\n"
        f"**Versions**\r\n{words['version']}\r\n\r\n@{chance.choice(_PEOPLE)} can you look? Related to #{words['n']}."
    )


def _prose(words: dict[str, Any], error: str, expected: str, chance: random.Random) -> str:
    """Return free text with a stack trace."""
    return (
        f"since yesterday {words['area']} is broken for us ({words['version']}). it worked before!\n\n"
        f"calling `{words['route']}` gives {words['code']} but it should give 200. {expected}\n\n```\n{error}\n"
        f"    at handle ({words['path']}:{words['n']}:13)\n    at next (/srv/node_modules/router/index.js:88:5)\n```\n"
        f"{chance.choice(('thanks!', 'any idea?', '🙏'))} <img src=x onerror=alert(1)>\n"
    )


def _grumble(words: dict[str, Any], error: str, expected: str, chance: random.Random) -> str:
    """Return a text with too little information, so that a person has to be asked."""
    return chance.choice(
        (
            f"{words['route']} never returns. {words['version']}. Why? 🤷",
            f"I see this all the time:\n\n> {error}\n",
            f"### Steps To Reproduce\n\n_No response_\n\n### Expected Behavior\n\n{expected}\n",
        )
    )


def _wish(words: dict[str, Any], chance: random.Random) -> str:
    criteria = f"- [ ] {words['route']} accepts the new option\n- [ ] the choice is remembered\n- [ ] it is documented"
    if chance.random() < 0.5:  # noqa: PLR2004 - every other one is written with care
        why = f"### Why\nWe use {words['area']} every day."
        return f"{why}\n\n### Acceptance criteria\n{criteria}\n\nSee `{words['path']}`."
    return f"I would like {words['area']} to do this by itself. It should work in {words['version']} too. Thanks! 🙏"


def _log(chance: random.Random) -> str:
    """Return a huge log, as people paste them."""
    rows = [
        f"2026-11-{chance.randint(1, 20):02d}T0{chance.randint(0, 9)}:00:00Z DEBUG row {n} {'x' * 40}"
        for n in range(700)
    ]
    return "```\n" + "\n".join(rows) + "\n```"
