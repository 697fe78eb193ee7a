"""No writing of a secret survives: in any place, in any pieces, behind any cut; and masking is linear in the text."""

import base64
import html
import importlib
import itertools
import json
import pkgutil
import re
import shlex
import time
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import backlog_worker
from backlog_worker.domain import masking
from backlog_worker.domain.forms import SHORTEST, forms
from backlog_worker.domain.masking import MASK, Stream, cut, keep, keep_address, masked, masked_bytes, masked_value

NASTY = r"""p'a"s$s\w/o&r<d>+=%25 ü{}"""
ENCODED = {
    "plain": lambda s: s,
    "json": json.dumps,
    "json without ascii": lambda s: json.dumps(s, ensure_ascii=False),
    "json in json": lambda s: json.dumps(json.dumps({"a": s})),
    "json with slashes": lambda s: json.dumps(s).replace("/", "\\/"),
    "url": lambda s: quote(s, safe=""),
    "url with slashes": quote,
    "url in small letters": lambda s: re.sub("%..", lambda found: found[0].lower(), quote(s, safe="")),
    "form": quote_plus,
    "hex": lambda s: s.encode().hex(),
    "HEX": lambda s: s.encode().hex().upper(),
    "python": repr,
    "python bytes": lambda s: repr(s.encode()),
    "shell": shlex.quote,
    "shell with backslashes": lambda s: re.sub(r"([^\w@%+=:,./-])", r"\\\1", s),
    "html": html.escape,
    "basic": lambda s: base64.b64encode(f"user:{s}".encode()).decode(),
    "base64 at 0": lambda s: base64.b64encode(f"{s}\n".encode()).decode(),
    "base64 at 1": lambda s: base64.b64encode(f"x{s}\n".encode()).decode(),
    "base64 at 2": lambda s: base64.urlsafe_b64encode(f"xx{s}more".encode()).decode(),
    "base64 in lines": lambda s: base64.encodebytes(f"{'x' * 60}{s}".encode()).decode(),
}
texts = st.text(
    st.characters(codec="utf-8", exclude_characters="\r\n\x85\u2028\u2029\x0b\x0c\x1c\x1d\x1e"), max_size=40
)
values = texts.map(lambda text: f"<{text}>abcdef")


@pytest.fixture(autouse=True)
def _unknown():
    masking.forget()
    yield
    masking.forget()


def _left(text: str, secret: str) -> list[str]:
    """Return the writings of a secret of which half or more is in *text*."""
    half = {form[: (len(form) + 1) // 2] for form in forms(secret) if len(form) >= 2 * SHORTEST}
    return [each for each in half | forms(secret) if each in text]


@pytest.mark.parametrize("name", ENCODED)
@pytest.mark.parametrize("secret", ["hunter22", NASTY, "x" * 7 + "/" * 90 + "y", "aaaaaaaa", "tok-" + "a1B2" * 30])
def test_every_writing_of_a_secret_is_masked(name, secret):
    text = f"before {ENCODED[name](secret)} after"
    found = masked(text, [secret])
    assert found != text
    assert not _left(found.replace(MASK, "\0"), secret), found
    assert masked(found, [secret]) == found, "to mask twice changes nothing"


@given(secret=values, name=st.sampled_from(sorted(ENCODED)), before=texts, after=texts)
@settings(max_examples=300, deadline=None)
def test_a_writing_is_masked_wherever_it_stands(secret, name, before, after):
    found = masked(before + ENCODED[name](secret) + after, [secret])
    assert MASK in found
    assert ENCODED[name](secret) not in found


@given(
    secrets=st.lists(st.one_of(values, st.sampled_from(["aaaaaaaa", "aabaaaab", "abababab"])), min_size=1, max_size=3),
    parts=st.lists(st.one_of(texts, st.integers(0, 9), st.sampled_from(["a" * 9, "ab", "\n", "aab"])), max_size=12),
    cuts=st.lists(st.integers(0, 400), max_size=12),
    name=st.sampled_from(sorted(ENCODED)),
)
@settings(max_examples=300, deadline=None)
def test_a_stream_says_the_same_however_it_was_cut(secrets, parts, cuts, name):
    text = "".join(ENCODED[name](secrets[part % len(secrets)]) if isinstance(part, int) else part for part in parts)
    whole, stream = Stream(secrets), Stream(secrets)
    expected = whole.feed(text) + whole.end()
    places = [0, *sorted(each for each in cuts if each < len(text)), len(text)]
    found = "".join(stream.feed(text[a:b]) for a, b in itertools.pairwise(places)) + stream.end()
    assert found == expected
    assert not [form for secret in secrets for form in forms(secret) if form in expected.replace(MASK, "\0")]


@given(secret=values, at=st.integers(300, 410), most=st.sampled_from([300, 400]))
@settings(max_examples=100, deadline=None)
def test_a_cut_leaves_no_half_of_a_secret(secret, at, most):
    found = cut("." * at + secret, most, [secret])
    assert len(found) <= most
    assert not _left(found.replace(MASK, "\0"), secret)


def test_a_stream_says_at_once_what_cannot_begin_a_secret():
    stream = Stream(["hunter22"])
    assert stream.feed("hello\nhun") == "hello\n"
    assert stream.feed("gry\n") == "hungry\n"
    assert stream.feed("hunter2") == ""
    assert stream.feed("2!") == f"{MASK}!"


def test_lines_of_a_secret_are_masked_each_for_itself():
    key = "-----BEGIN KEY-----\n  MIIEvQIBADANBgkq\n  hkiG9w0BAQEFAASC\n-----END KEY-----"
    assert masked("a MIIEvQIBADANBgkq b hkiG9w0BAQEFAASC", [key]) == f"a {MASK} b {MASK}"
    assert "MIIE" not in masked(json.dumps(key), [key])


def test_keys_and_numbers_and_bytes_are_masked_too():
    assert masked_value({"hunter22": [12345678, True, 1.5, "x hunter22"]}, ["hunter22", "12345678"]) == {
        MASK: [MASK, True, 1.5, f"x {MASK}"]
    }
    content = b"\x00\xff" + "pässword1".encode() + b"\xfe" + base64.b64encode("u:pässword1".encode())
    found = masked_bytes(content, ["pässword1"])
    assert found.startswith(b"\x00\xff***\xfe")
    assert b"cMOkc3N3b3Jk" not in found
    assert masked_bytes(b"\xff\xfe", ["pässword1"]) == b"\xff\xfe"


def test_what_was_kept_once_is_masked_by_everything_afterwards():
    assert masked("open hunter22") == "open hunter22"
    keep(["hunter22"])
    assert masked("open hunter22") == f"open {MASK}"
    assert masked_value({"a": "hunter22"}) == {"a": MASK}


def test_the_values_that_are_known_are_bounded_and_the_newest_stay():
    keep(f"secret-number-{n}" for n in range(masking.KEPT_MAX + 5))
    assert masked("secret-number-0;") == "secret-number-0;"
    assert masked(f"secret-number-{masking.KEPT_MAX + 4};") == f"{MASK};"


SHAPED = [
    ("postgresql://u:pw@h/d", "pw"),
    ("postgresql://u:p@ss/w0rd?x#y@h/d", "ss/w0rd"),
    ("postgresql://h/d?user=u&password=s3cret&x=1", "s3cret"),
    ("postgresql://h/d?sslpassword=s3cret", "s3cret"),
    ("host=h user=u password='s3 cret' dbname=d", "s3 cret"),
    ("connection to host=h password=s3cret failed", "s3cret"),
    ("redis://:pw1@h1:6379/0,redis://:pw2@h2", "pw2"),
    ("amqp://guest:guest1@h//", "guest1"),
    ("HTTPS_PROXY=HTTP://Me:Pass1@proxy:3128", "Pass1"),
    ("https://0123456789abcdef0123@github.com/a/b", "0123456789abcdef0123"),
    ("Authorization: Basic dXNlcjpwYXNz", "dXNlcjpwYXNz"),
    ('{"authorization": "token abcdefg"}', "abcdefg"),
    ("Illegal header value b'Bearer abcdefghijklmnopqrstuvwxyz'", "klmnop"),
    ("https://h/hook?api_key=abc123", "abc123"),
    ("token ghp_abcdefghijklmnopqrstuvwxyz", "ghp_"),
    ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----", "MIIE"),
]


@pytest.mark.parametrize(("text", "secret"), SHAPED)
def test_what_is_shaped_like_a_secret_is_masked(text, secret):
    assert secret not in masked(text)


@pytest.mark.parametrize(
    "text",
    ["see https://h/a?b=c and mail me@x.org", "the password: none", "postgresql://u@h/d", "a = b", "Bearer of news"],
)
def test_ordinary_text_stays(text):
    assert masked(text) == text


def test_the_passwords_of_addresses_are_known_but_for_ordinary_words():
    keep_address("postgresql://u:s3cret%2Fword@h/postgres?sslpassword=An0ther")
    keep_address("slack://hook/T0123456789ABCDEF/x")
    keep_address("amqp://guest:guest@h//")
    said = masked("login s3cret/word, s3cret%2Fword, An0ther, T0123456789ABCDEF by guest at postgres")
    assert said == f"login {MASK}, {MASK}, {MASK}, {MASK} by guest at postgres"


# Each is repeated to the wanted length, and then follows the end that makes a pattern fail.
SEEDS = (
    "a", " ", "\t", "\n", "0", "-", "/", "'", '"', "\\", ".", ":", "://", "a://", "a://x:", "a:b@", "eyJ", "eyJ-", "eyJa.",
    "ghp_", "-----BEGIN ", "-----BEGIN A PRIVATE KEY-----", "authorization:", "password=", "password='", "bearer ",
    "?token=", "```\n", "```json\n", "{{", "${{", "jobs[", "resets at ", "retry after", "1", "1:", "#", "a/", "a.", "_",
    ".a", ".status", "dashboard.", "'a", "\\'", "FROM ", "* ", "[PROGRESS:", "rate", "usage ", "(", "x(", "@", "<", "&", "=",
)  # fmt: skip
ENDS = ("", "!", "://x")
REWRITTEN = "backlog_worker.domain.specification"


def _patterns():
    for found in pkgutil.walk_packages(backlog_worker.__path__, "backlog_worker."):
        if ".cli.files" in found.name or ".migrations" in found.name or found.name.endswith("__main__"):
            continue
        module = importlib.import_module(found.name)
        for name, value in sorted(vars(module).items()):
            if isinstance(value, re.Pattern) and isinstance(value.pattern, str) and found.name != REWRITTEN:
                yield pytest.param(value, id=f"{found.name}.{name}")


def _seconds(pattern: re.Pattern[str], text: str) -> float:
    began = time.thread_time()
    pattern.search(text)
    for _ in pattern.finditer(text):
        pass
    pattern.fullmatch(text)
    return time.thread_time() - began


@pytest.mark.parametrize("pattern", list(_patterns()))
def test_no_pattern_of_the_package_is_slower_than_linear_on_hostile_text(pattern):
    for seed in SEEDS:
        for end in ENDS:
            small, large = ((seed * (n // len(seed))) + end for n in (2_000, 16_000))
            if _seconds(pattern, large) > 0.01:  # eight times the text: 64 times the work where it is quadratic
                once, more = (min(_seconds(pattern, text) for _ in range(3)) for text in (small, large))
                assert more < 24 * max(once, 0.0005), f"{pattern.pattern!r} on {seed!r} ... {end!r}: {once} s, {more} s"


@pytest.mark.parametrize("seed", SEEDS)
def test_masking_is_linear_with_many_secrets(seed):
    secrets = [f"secret-{n:04}-{'ab' * (n % 40)}" for n in range(50)]
    masked("warm", secrets)
    small, large = (seed * (n // len(seed)) + "://x" for n in (4_000, 32_000))
    once, more = (min(_masked_seconds(text, secrets) for _ in range(2)) for text in (small, large))
    assert more < 24 * max(once, 0.001)


def _masked_seconds(text: str, secrets: list[str]) -> float:
    began = time.thread_time()
    masked(text, secrets)
    stream = Stream(secrets)
    stream.feed(text)
    return time.thread_time() - began
