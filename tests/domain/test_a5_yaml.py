"""What YAML reads as something else than people mean is said with the way to write it; a command keeps its shell's holes."""

import pytest

from backlog_worker.domain import document, pipeline, policy
from backlog_worker.domain.errors import InvalidFileError
from backlog_worker.testing import POLICY

AMBIGUOUS = ("007", "+07", "-012", "00", "09", "00.5")
CLEAR = {"0": 0, "7": 7, "-7": -7, "1.50": 1.5, "0.5": 0.5, "0x1F": 31, "1e3": 1000.0, "yes": "yes", "no": "no"}
CLEAR |= {
    "on": "on",
    "off": "off",
    "y": "y",
    "2026-12-01": "2026-12-01",
    "1:30": "1:30",
    "1:30:00": "1:30:00",
    "0b11": "0b11",
    "0O7": "0O7",
}


@pytest.mark.parametrize("scalar", AMBIGUOUS)
@pytest.mark.parametrize("line", ["inputs: {{ zip: {} }}", "env: {{ ZIP: {} }}", "id: {}"])
def test_a5_a_number_that_can_be_read_in_two_ways_is_refused_in_definitions_and_the_quotes_are_named(line, scalar):
    body = "name: p\njobs:\n  - run: 'true'\n    " + line.format(scalar) + ("" if "id:" in line else "\n    id: a")
    with pytest.raises(InvalidFileError) as raised:
        pipeline.load(body)
    (finding,) = raised.value.findings
    assert finding.line == 4
    assert f"{scalar} can be read as two numbers" in finding.text
    assert f'in quotes, "{scalar}", or the number' in finding.hint


@pytest.mark.parametrize("scalar", ["0o7", "1_000", "0x1F", "1e3", "12", "1.50", "true", "False"])
def test_a5_what_yaml_takes_for_something_else_names_the_quotes_where_a_text_is_wanted(scalar):
    with pytest.raises(InvalidFileError) as raised:
        pipeline.load(f"name: p\nenv: {{ A: {scalar} }}\njobs: [{{ id: a, run: 'true' }}]")
    (finding,) = raised.value.findings
    assert (finding.line, finding.column) == (2, 11)
    assert f'"{scalar}"' in finding.hint
    made = pipeline.load(f"name: p\nenv: {{ A: '{scalar}' }}\njobs: [{{ id: a, run: 'true' }}]")
    assert made.jobs[0].env == {"A": scalar}


@pytest.mark.parametrize("scalar", CLEAR)
def test_a5_what_is_not_ambiguous_is_kept_as_it_is_written(scalar):
    assert document.read(f"b: {scalar}", file="x.yml", group="2").value == {"b": CLEAR[scalar]}


@pytest.mark.parametrize(
    ("line", "words", "hint"),
    [
        ("description: 12", "12 is a number in YAML", '"12"'),
        ("description: 3.10", "3.10 is a number in YAML", '"3.10"'),
        ("description: true", "true is a truth in YAML", '"true"'),
        ("description: ~", "this is empty", '""'),
        ("description:", "this is empty", '""'),
        ("env: { PORT: 8080 }", "8080 is a number in YAML", '"8080"'),
        ("env: { 1: 0x1F }", "0x1F is a number in YAML", '"0x1F"'),
        ("concurrency: { cancelInProgress: yes }", "yes is a text in YAML 1.2", "true or false"),
        ("concurrency: { cancelInProgress: off }", "off is a text in YAML 1.2", "true or false"),
        ("retryRuns: '3'", "expected a number", "without quotes"),
    ],
)
def test_a5_a_scalar_of_another_type_says_what_it_is_and_how_to_write_what_is_meant(line, words, hint):
    with pytest.raises(InvalidFileError) as raised:
        pipeline.load(f"name: p\n{line}\njobs: [{{ id: a, run: 'true' }}]")
    (finding,) = raised.value.findings
    assert finding.line == 2
    assert words in finding.text
    assert hint in finding.hint


@pytest.mark.parametrize(
    "text", ["base: &b { a: 1 }\nuse: { <<: *b }", "<<: { a: 1 }", "a: [{ <<: [] }]", "a: *b"], ids=str
)
def test_a5_merge_keys_are_refused_by_name(text):
    with pytest.raises(InvalidFileError) as raised:
        document.read(text, file="x.yml", group="2")
    (finding,) = raised.value.findings
    assert "merge keys" in finding.text
    assert "quotes" in finding.text
    assert document.read('"<<": 1', file="x.yml", group="2").value == {"<<": 1}


@pytest.mark.parametrize(
    "command",
    [
        "docker ps --format '{{.Names}}'",
        "docker inspect -f '{{ .State.Status }}' x",
        "docker ps --format '{{json .}}'",
        "docker inspect -f '{{range .Mounts}}{{.Source}}{{end}}' x",
        "kubectl get pods -o go-template='{{if .items}}{{len .items}}{{else}}0{{end}}'",
        "awk '{{print $1}}' f",
        "echo ${HOME} $(date) {}",
    ],
)
@pytest.mark.parametrize("where", ["run: {}", "run: 'true', setup: [{}]", "run: 'true', gates: [{{ id: G, run: {} }}]"])
def test_a5_the_holes_of_a_shell_are_its_own_and_reach_it_as_they_stand(command, where):
    quoted = '"' + command.replace('"', '\\"') + '"'
    made = pipeline.load("name: p\njobs: [{ id: a, " + where.format(quoted) + " }]").jobs[0]
    given = [made.target, *(each.command for each in made.setup), *(each.run for each in made.gates)]
    assert command in given


@pytest.mark.parametrize(
    "hole",
    ["${{ entry.title }}", "${{x}}", "{{ entry.title }}", "{{x}}", "{{inputs.a}}", "${{ secrets.A }}", "{{a.output}}"],
)
def test_a5_a_hole_that_we_would_be_asked_to_fill_is_refused_in_a_command(hole):
    with pytest.raises(InvalidFileError) as raised:
        pipeline.load(f"name: p\njobs:\n  - id: a\n    run: \"echo '{hole}'\"")
    (finding,) = raised.value.findings
    assert finding.code == "BW231"
    assert hole in finding.text


def test_a5_a_text_that_only_begins_like_a_number_is_a_text():
    made = pipeline.load(
        "name: p\ndescription: 007 reports, 008 too\nenv: { A: '007' }\njobs: [{ id: a, run: 'true' }]"
    )
    assert (made.description, made.jobs[0].env) == ("007 reports, 008 too", {"A": "007"})


def test_a5_a_policy_says_the_same():
    with pytest.raises(InvalidFileError) as raised:
        policy.load(POLICY + "ownership: { default_owner: 7 }\n")
    assert "in quotes" in str(raised.value)
