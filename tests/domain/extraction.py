"""Precision and recall of the analysis over the corpus, field by field."""

import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from backlog_worker.domain.specification import Specification, analysed

FOLDER = Path(__file__).parents[1] / "corpus"
LISTS = (
    "steps",
    "expected",
    "actual",
    "acceptance",
    "versions",
    "environment",
    "errors",
    "places",
    "components",
    "missing",
)
FIELDS = ("kind", "ready", "summary", *LISTS)
ALIKE = 0.75  # of the pairs of signs of two texts that a reader calls the same


@cache
def corpus() -> tuple[dict[str, Any], ...]:
    yaml = YAML(typ="safe")
    return tuple(
        {**each, "file": path.stem, "body": filled(each)}
        for path in sorted(FOLDER.glob("*.yml"))
        for each in yaml.load(path)
    )


def filled(issue: dict[str, Any]) -> str:
    """The body of an issue; of a huge one the log is made here."""
    if issue.get("generated") != "log":
        return issue["body"]
    rows = (
        f"2026-01-{1 + n % 28:02d}T02:{n % 60:02d}:00Z DEBUG step {n} took {n % 97} ms {'x' * 40}" for n in range(700)
    )
    return f"{issue['body']}\n```\n" + "\n".join(rows) + "\n```\n"


def found(issue: dict[str, Any]) -> Specification:
    return _analysed(issue["title"], issue["body"], tuple(issue.get("labels", ())))


@cache
def _analysed(title: str, body: str, labels: tuple[str, ...]) -> Specification:
    return analysed(title, body, labels=labels)


def wanted(issue: dict[str, Any], name: str) -> Any:
    """What a good reader takes; where no criteria are given, those are what is expected."""
    want = issue["want"]
    if name == "acceptance":
        return want.get("acceptance", want.get("expected", []))
    return want.get(name, "" if name == "summary" else [])


def given(spec: Specification, name: str) -> Any:
    """What was extracted; criteria derived by rule from errors, and the regression test of each bug, are no claim."""
    if name != "acceptance":
        return getattr(spec, name)
    derived = ("A regression test", "The steps no longer end with")
    return [each.removeprefix("Verified: ") for each in spec.acceptance if not each.startswith(derived)]


def compared(issue: dict[str, Any], name: str) -> tuple[int, int, int, list[str]]:
    """How many values are right, extracted and wanted, with the differences in words."""
    want, have = wanted(issue, name), given(found(issue), name)
    if name in {"kind", "ready"}:
        right = have in want if isinstance(want, list) else have == want
        return int(right), 1, 1, [] if right else [f"wanted {want}, not {have}"]
    if name == "summary":
        want, have = [want] if want else [], [have] if have else []
    left, wrong = list(want), []
    for each in have:
        match = next((other for other in left if same(each, other, exact=name == "missing")), None)
        if match is None:
            wrong.append(f"+ {each!r}")
        else:
            left.remove(match)
    return len(have) - len(wrong), len(have), len(want), [*wrong, *(f"- {each!r}" for each in left)]


def same(have: str, want: str, *, exact: bool = False) -> bool:
    if exact or have == want:
        return have == want
    if want.endswith("…"):
        return plain(have).startswith(plain(want))
    one, other = pairs(plain(have)), pairs(plain(want))
    if re.fullmatch(r"[^\n]{1,40} v?\d\S*", want) or max(len(have), len(want)) < 24:
        return plain(have) == plain(want)
    return 2 * sum((one & other).values()) >= ALIKE * (sum(one.values()) + sum(other.values()))


def plain(text: str) -> str:
    return re.sub(r"[\W_]+", "", text.casefold())


def pairs(text: str) -> Counter[str]:
    return Counter(text[at : at + 2] for at in range(len(text) - 1))


def measured(issues: tuple[dict[str, Any], ...]) -> dict[str, tuple[float, float]]:
    """Precision and recall of each field."""
    figures = {}
    for name in FIELDS:
        sums = [0, 0, 0]
        for issue in issues:
            if name in issue["want"].get("loose", ()):
                continue
            for at, count in enumerate(compared(issue, name)[:3]):
                sums[at] += count
        figures[name] = (sums[0] / sums[1] if sums[1] else 1.0, sums[0] / sums[2] if sums[2] else 1.0)
    return figures


def differences(issues: tuple[dict[str, Any], ...]) -> Iterator[str]:
    for issue in issues:
        for name in FIELDS:
            words = compared(issue, name)[3] if name not in issue["want"].get("loose", ()) else []
            if words:
                yield f"{issue['file']}/{issue['id']}  {name}: " + "; ".join(words)


if __name__ == "__main__":
    import sys

    chosen = tuple(each for each in corpus() if not sys.argv[1:] or each["file"] in sys.argv[1:])
    for line in differences(chosen):
        print(line)
    print(len(chosen), "issues")
    for name, (precision, recall) in measured(chosen).items():
        print(f"{name:<12} precision {precision:.3f}  recall {recall:.3f}")
