"""Patterns of branches and paths mean what GitHub's do: its own examples, here and in what is exported."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backlog_worker.domain import globs, pipeline, trigger
from backlog_worker.domain.errors import InvalidFileError, RefusedError
from backlog_worker.domain.language import TriggerFile
from backlog_worker.domain.trigger import Event
from backlog_worker.integrations import github_actions, gitlab_ci, jenkins

# From "Filter pattern cheat sheet" of GitHub's documentation: the pattern, what it takes, what it does not.
SHEET = [
    ("feature/*", ["feature/my-branch", "feature/your-branch"], ["feature/a/b", "feature", "xfeature/a"]),
    ("feature/**", ["feature/beta-a/my-branch", "feature/your-branch", "feature/mona/the/octocat"], ["feature"]),
    ("main", ["main"], ["maine", "a/main"]),
    ("releases/mona-the-octocat", ["releases/mona-the-octocat"], ["releases/mona"]),
    ("*", ["main", "releases"], ["all/the/branches"]),
    ("**", ["all/the/branches", "every/tag", "x"], []),
    ("*feature", ["mona-feature", "feature", "ver-10-feature"], ["feature-1", "a/feature"]),
    ("v2*", ["v2", "v2.0", "v2.9"], ["v1", "v2/a"]),
    ("v[12].[0-9]+.[0-9]+", ["v1.10.1", "v2.0.0"], ["v3.1.1", "v1.1", "v1x1x1"]),
    ("*.jsx?", ["page.js", "page.jsx"], ["page.jsxx", "a/page.js"]),
    ("**.js", ["index.js", "js/index.js", "src/js/app.js"], ["index.jsx"]),
    ("docs/*", ["docs/README.md", "docs/file.txt"], ["docs/a/b.md"]),
    ("docs/**", ["docs/README.md", "docs/mona/octocat.txt"], ["docs", "a/docs/b"]),
    ("docs/**/*.md", ["docs/README.md", "docs/mona/hello-world.md", "docs/a/markdown/file.md"], ["docs/a.txt"]),
    ("**/docs/**", ["docs/hello.md", "dir/docs/my-file.txt", "space/docs/plan/space.doc"], ["adocs/x"]),
    ("**/README.md", ["README.md", "js/README.md"], ["xREADME.md"]),
    ("**/*src/**", ["a/src/app.js", "my-src/code/js/app.js"], ["a/srcs/b"]),
    ("**/*-post.md", ["my-post.md", "path/their-post.md"], ["post.md"]),
    ("**/migrate-*.sql", ["migrate-10909.sql", "db/migrate-v1.0.sql", "db/sept/migrate-v1.sql"], ["migrate.sql"]),
    (r"a\*b\[\?", ["a*b[?"], ["axb[?"]),
    ("a+b?", ["a", "aab"], ["", "abb"]),
    ("(x)|{y}.$^", ["(x)|{y}.$^"], ["x"]),
]
LISTS = [
    (["releases/**", "!releases/**-alpha"], ["releases/10", "releases/beta/mona"], ["releases/10-alpha", "main"]),
    (["*.md", "!README.md", "README*"], ["hello.md", "README.md", "README.doc"], ["a/hello.md", "x.txt"]),
    (["**", "!docs/**"], ["src/a"], ["docs/a"]),
    (["!main", "m*"], ["main", "m"], ["x"]),
]


@pytest.mark.parametrize(("pattern", "yes", "no"), SHEET)
def test_a5_a_pattern_takes_what_github_says_and_its_regular_expression_agrees(pattern, yes, no):
    made = globs.read(pattern)
    assert [each for each in yes if not made.matches(each)] == []
    assert [each for each in no if made.matches(each)] == []
    assert [bool(re.fullmatch(made.regex, each)) for each in (*yes, *no)] == [True] * len(yes) + [False] * len(no)


@given(st.text("ab/.*?+[]!-\\", min_size=1, max_size=8), st.text("ab/.-*", max_size=8))
def test_a5_a_pattern_and_its_regular_expression_are_the_same_or_it_is_no_pattern(pattern, name):
    try:
        made = globs.read(pattern)
    except ValueError as error:
        assert str(error)
        return
    assert made.matches(name) == bool(re.fullmatch(made.regex, name))
    assert re.fullmatch(jenkins._regex(["**", f"!{made.text.removeprefix('!')}"]), name) is None or not made.matches(
        name
    )


@pytest.mark.parametrize(("patterns", "yes", "no"), LISTS)
def test_a5_the_last_pattern_that_matches_decides_for_branches_and_paths_and_in_exports(patterns, yes, no):
    for name in (*yes, *no):
        wanted = name in yes
        push = TriggerFile(type="push", branches=patterns)
        assert trigger.fits(push, Event(type="push", delivery="d", payload={}, branch=name)) == wanted
        touched = TriggerFile(type="push", paths=patterns)
        assert trigger.fits(touched, Event(type="push", delivery="d", payload={}, paths=(name,))) == wanted
        assert bool(re.fullmatch(jenkins._regex(patterns), name)) == wanted
        assert gitlab_says(gitlab_ci._branches(patterns), name) == wanted
    mixed = Event(type="push", delivery="d", payload={}, paths=(*yes, *no))
    assert trigger.fits(touched, mixed), "one file that is taken in is enough"


def gitlab_says(condition: str, name: str) -> bool:
    """Evaluate the part of a rule that we write, with Python for GitLab."""
    text = condition.removeprefix(" && ").replace("&&", "and").replace("||", "or")
    made = re.sub(
        r"\$\w+ (=~|!~) /\^(.*?)\$/(?=[ )]|$)",
        lambda m: str(bool(re.fullmatch(m[2].replace("\\/", "/"), name)) == (m[1] == "=~")),
        text,
    )
    return _logic(made)


def _logic(text: str) -> bool:
    import ast

    def value(node):
        match node:
            case ast.BoolOp(op=ast.And()):
                return all(value(each) for each in node.values)
            case ast.BoolOp(op=ast.Or()):
                return any(value(each) for each in node.values)
            case ast.Constant():
                return node.value
        raise AssertionError(text)

    return value(ast.parse(text, mode="eval").body)


@pytest.mark.parametrize(
    "pattern", ["", "!", "+a", "?a", "*?", "**+", "[", "[]", "[!a]", "[a-Z]", "[z-a]", "a\\", "x" * 501]
)
def test_a5_what_is_no_pattern_is_a_finding_at_its_place(pattern):
    body = f"name: p\ntriggers:\n  - type: push\n    branches:\n      - main\n      - '{pattern}'\njobs: [{{ id: a, run: 'true' }}]"
    with pytest.raises(InvalidFileError) as raised:
        pipeline.load(body)
    assert [(each.code, each.line, each.column) for each in raised.value.findings] == [("BW216", 6, 9)]


def test_a5_patterns_that_only_take_out_and_paths_that_never_come_are_refused():
    for triggers, words in (
        ("{ type: push, paths: ['!docs/**'] }", "match nothing"),
        ("{ type: pull_request, paths: ['**'], secret: '${{ secrets.HOOK }}' }", "contains no file names"),
    ):
        with pytest.raises(InvalidFileError, match=words):
            pipeline.load(f"name: p\ntriggers: [{triggers}]\njobs: [{{ id: a, run: 'true' }}]")


def test_a5_matching_is_linear_in_the_name():
    import time

    made = globs.read("**a" * 30 + "b")

    def took(size):
        name, best = "a" * size, 9e9
        for _ in range(3):
            since = time.thread_time()
            assert not made.matches(name)
            best = min(best, time.thread_time() - since)
        return best

    assert took(2000) < 8 * took(500)


def made(triggers):
    return pipeline.load(f"name: p\ntriggers: [{triggers}]\njobs: [{{ id: a, run: 'true' }}]")


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("docs/**", "docs/**/*"),
        ("**", "**/*"),
        ("**.js", "**/*.js"),
        ("**/a/*.md", "**/a/*.md"),
        ("v[12]/*", "v[12]/*"),
    ],
)
def test_a5_gitlab_gets_paths_in_its_own_words(pattern, wanted):
    value = gitlab_ci.exported(made(f"{{ type: push, paths: ['{pattern}'] }}")).text
    assert f"- '{wanted}'" in value or f"- {wanted}" in value


@pytest.mark.parametrize("pattern", ["a?", "a+", "a**b", "src/**.js", "{a}", r"a\*"])
def test_a5_gitlab_refuses_paths_that_it_cannot_say(pattern):
    with pytest.raises(RefusedError, match="cannot express"):
        gitlab_ci.exported(made(f"{{ type: push, paths: ['{pattern}'] }}"))
    with pytest.raises(RefusedError, match="cannot express"):
        gitlab_ci.exported(made("{ type: push, paths: ['**', '!docs/*'] }"))


def test_a5_github_gets_them_as_they_stand_and_refuses_two_triggers_of_one_type():
    text = github_actions.exported(made("{ type: push, branches: ['**', '!a+'] }")).text
    assert "'**'" in text
    assert "'!a+'" in text
    with pytest.raises(RefusedError, match="two triggers of type push"):
        github_actions.exported(made("{ type: push, branches: [a] }, { type: push, branches: [b] }"))


def test_a5_a_jenkinsfile_asks_for_branches_and_paths_around_all_its_stages():
    import tree_sitter
    import tree_sitter_groovy

    text = jenkins.exported(
        made("{ type: push, branches: ['r/**', '!r/x'], paths: ['*.md'] }, { type: pull_request, branches: [main] }")
    ).text
    assert "branch pattern: '(?!(?:r/x)$)(?:r/.*)', comparator: 'REGEXP'" in text
    assert "changeset pattern: '[^/]*\\\\.md', comparator: 'REGEXP'" in text
    assert "changeRequest target: 'main', comparator: 'REGEXP'" in text
    assert text.index("beforeAgent") < text.index("Install backlog-worker")
    tree = tree_sitter.Parser(tree_sitter.Language(tree_sitter_groovy.language())).parse(text.encode())
    assert not tree.root_node.has_error
    assert text.count("{") == text.count("}")


def test_a5_a_tag_is_no_branch():
    from backlog_worker.integrations import webhooks

    event = webhooks.event(b'{"ref": "refs/tags/v1"}', {"x-github-event": "push"}, "d")
    assert not trigger.fits(TriggerFile(type="push", branches=["**"]), event)
    assert trigger.fits(TriggerFile(type="push"), event)
