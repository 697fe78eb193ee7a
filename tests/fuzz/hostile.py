"""Values that have stopped something somewhere, and strategies that put them into place."""

import copy
import os
from collections.abc import Callable, Mapping
from typing import Any

from hypothesis import strategies as st

DEEP = 3_000
TEXTS = [
    *(
        "",
        " ",
        "\x00",
        "a\x00b",
        "\ud800",
        "x\udfff",
        os.fsdecode(b"\xff\xfe"),
        "\ufeff",
        "\u2028",
        "\x85",
        "\r\n",
        "\x1b[31m",
    ),
    *("-", "--", "-1", "0", "1", "007", "0b101", "0x", "1_0", "1e999", "-1e999", "nan", "inf", "-inf", "1e5", "٣", "²"),
    *("9" * 20, "9" * 400, "9" * 5000, "-" + "9" * 30, "9223372036854775807", "9223372036854775808", "2147483648"),
    *("0001-01-01", "0001-01-01T00:00:00+14:00", "9999-12-31", "9999-12-31T23:59:59-14:00", "2026-06-30T23:59:60Z"),
    *(
        "2026-01-01T00:00:00+24:00",
        "2026-01-01T00:00:00-24:00",
        "2026-02-30",
        "2026-W53",
        "2026-W01",
        "9999-W53",
        "0001-W01",
    ),
    *("99999999d", "99999999999d", "1e9s", "0s", "-1h", "P1D", "30", "30 years", "٣d", "1.5.5h", "." * 50 + "s"),
    *(
        "a:b",
        ":",
        "age:>99999999d",
        "age:>",
        "age:<0s",
        "status:",
        "label:,",
        "#1",
        "#" + "9" * 30,
        "is:retired",
        '"',
        "'",
    ),
    *(
        "*",
        "%",
        "_",
        "\\",
        "a" * 400,
        "a" * 5000,
        "../..",
        "/",
        "/etc",
        "~",
        ".",
        "..",
        "con",
        "a/b",
        "a\nb",
        "🐛" * 200,
    ),
    *("http://", "https://[", "http://x:99999/", "http://x:p/", "//", "file:///etc/passwd", "javascript:1", "x://y:z@"),
    *("{{x}}", "${{ x }}", "${{", "{{", "${{ secrets.A }}", "${{ [1][5] }}", "${{ " + "(" * 500 + " }}", "{{ " * 50),
    *(
        "(" * 400,
        "[" * DEEP,
        "{" * DEEP,
        '{"a":' * DEEP,
        "!" * 400 + "true",
        "1/0",
        "entry.",
        "entry.title.matches('(')",
    ),
    *(
        "{}",
        "[]",
        "null",
        "true",
        "NaN",
        "Infinity",
        "-Infinity",
        '"x"',
        "1",
        '{"a": NaN}',
        '{"a": 1e999}',
        '{"\\ud800": 1}',
    ),
    *(
        '{"a": "\\u0000"}',
        "{",
        '{"__proto__": 1}',
        "<script>",
        "' OR 1=1 --",
        "$(id)",
        "`id`",
        "; id",
        "Europe/Berlin",
        "Europe",
    ),
    *("* * * * *", "0 0 31 2 *", "0 0 29 2 *", "*/0 * * * *", "60 * * * *", "@daily", "* * * *", "9" * 30 + " * * * *"),
    *("mon-fri", "mon", "08:00-20:00", "24:00-00:00", "99:99", "UTC", "UTC+99", "utc", "-0"),
]
NUMBERS: list[Any] = [
    *(0, 1, -1, 2**31, 2**63 - 1, 2**63, -(2**63) - 1, 0.5, -0.0, 1e308, 5e-324, float("nan"), float("inf")),
    *(float("-inf"), True, False, None),
]


def nested(depth: int) -> Any:
    """Return lists in lists, so deep."""
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


LARGE: dict[str, Callable[[], Any]] = {
    "deep": lambda: nested(40),
    "deeper": lambda: nested(400),
    "long": lambda: [[]] * 1000,
    "wide": lambda: {str(number): number for number in range(500)},
    "digits": lambda: 10**4000,
}


def texts() -> st.SearchStrategy[str]:
    """A hostile text, or one that nobody thought of, surrogates and NUL too."""
    anything = st.text(st.characters(exclude_categories=()), max_size=20)
    odd = st.integers(0, len(TEXTS) - 1).map(_odd)  # by number: a strategy that shows all of them is slow
    return odd | anything | st.builds(str.__add__, odd, odd)


def _odd(number: int) -> str:
    return TEXTS[number]


def values() -> st.SearchStrategy[Any]:
    """A hostile value as JSON or YAML may hold it."""
    leaves = texts() | st.sampled_from(NUMBERS) | st.integers() | st.floats()
    few = st.recursive(leaves, lambda each: st.lists(each, max_size=3) | st.dictionaries(texts(), each, max_size=3))
    return few | st.sampled_from(sorted(LARGE)).map(lambda name: LARGE[name]())


@st.composite
def spoiled(draw: st.DrawFn, good: Mapping[str, Any]) -> dict[str, Any]:
    """A good record of which one to three values are something else, are gone, or have a neighbour."""
    record = dict(good)
    for _ in range(draw(st.integers(1, 3))):
        name = draw(st.sampled_from([*good, "unheard"]) | texts())
        if draw(st.integers(0, 9)) == 0:
            record.pop(name, None)
            continue
        inside = record.get(name)
        if isinstance(inside, dict) and draw(st.booleans()):
            record[name] = draw(spoiled(inside or {"x": 1}))
        else:
            record[name] = draw(values())
    return record


@st.composite
def edited(draw: st.DrawFn, good: Any) -> Any:
    """A good document of which one to three values, however deep, are something else or are gone."""
    document = copy.deepcopy(good)
    for _ in range(draw(st.integers(1, 3))):
        inside = document
        while inside:
            place = draw(st.sampled_from(list(inside) if isinstance(inside, dict) else range(len(inside))))
            if isinstance(inside[place], dict | list) and inside[place] and draw(st.integers(0, 3)):
                inside = inside[place]
                continue
            if draw(st.integers(0, 5)):
                inside[place] = draw(values())
            else:
                del inside[place]
            break
    return document
