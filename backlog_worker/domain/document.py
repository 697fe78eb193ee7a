"""YAML documents: text to a validated value, with a line for every error; limits are checked before values exist."""

import difflib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel
from ruamel.yaml import YAML
from ruamel.yaml.compat import StringIO
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent, CollectionStartEvent, DocumentStartEvent, Event, NodeEvent, ScalarEvent
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from backlog_worker.domain import duration
from backlog_worker.domain.errors import Finding, InvalidFileError
from backlog_worker.domain.masking import cut

SIZE_MAX = 256 * 1024
DEPTH_MAX = 32
NODES_MAX = 20_000
DIGITS_MAX = 40
INT_MAX = 1 << 63
BASE_TEN = 10

Path = tuple[str | int, ...]
Places = dict[Path, tuple[int, int]]
M = TypeVar("M", bound=BaseModel)

# Codes are stable and never reused: 2xx pipelines, 3xx policies, 5xx agents; the last two digits mean the same in each
# group.
CODES: dict[str, tuple[str, str]] = {
    "01": (
        "The text is not valid YAML.",
        "Correct the line shown. Put a text in quotes if it contains ': ' or begins with a symbol.",
    ),
    "02": (
        "The text is too large or too deeply nested, or it uses anchors, aliases or tags.",
        "Write the values out in full. Split a large file.",
    ),
    "03": (
        "A key or a value does not match the schema.",
        "Compare the file with `backlog-worker schema pipeline` or `backlog-worker schema policy`.",
    ),
    "04": ("An expression does not compile.", "Write numbers with a decimal point, and use only the documented names."),
    "05": ("An id is used twice.", "Give every job, gate, rule and term its own id."),
    "07": (
        "A job must have exactly one kind of work.",
        "Use one of `agent`, `run`, `python`, `template`, `pipeline`, `interactive`.",
    ),
    "08": (
        "A term of the score falls as an entry grows older.",
        "Let the term rise with age or stay the same: the queue is read oldest first.",
    ),
    "09": ("A contract is not a valid JSON Schema.", "Correct the schema. Remote references are not followed."),
    "11": (
        "An include cannot be read, includes itself, or is given a parameter that it does not declare.",
        "Correct `file` or `with` of the include.",
    ),
    "12": ("Jobs depend on each other in a cycle.", "Remove one `dependsOn` of the cycle shown."),
    "13": (
        "A placeholder refers to something that does not exist.",
        "Refer to an earlier job, or to a value that the job is given.",
    ),
    "14": ("A job depends on a job that does not exist.", "Name a job of this file or of its includes."),
    "15": (
        "A secret is used where it could become visible.",
        "Put `${{ secrets.NAME }}` into `env` of the job that needs it.",
    ),
    "16": ("A trigger is incomplete.", "Add `cron` to a schedule, and `secret` to a webhook."),
    "17": ("An agent does not exist.", "Add the file `agents/NAME.md`."),
    "18": ("Nobody has this role.", "List its people under `roles` in the policy, or use a role that exists."),
    "20": ("A file cannot be read.", "Correct its permissions or its encoding, or remove it."),
    "21": (
        "A test of the policy fails, so the policy is not used.",
        "Correct the terms or the test. `backlog-worker policy test` shows the scores.",
    ),
    "19": (
        "The loader failed on this file with an unexpected error.",
        "Undo the last change of the file, and report the error.",
    ),
    "29": (
        "A job can run although an approval before it was rejected.",
        "Check the status of the approved job in `when`.",
    ),
    "32": ("A `when` waits for a job that `dependsOn` does not name.", "Name it there, or read another job in `when`."),
    "33": ("A job is named like a rollback but undoes no job.", "Add `undoes: JOB`; a resumed run does that job anew."),
    "34": ("A duration is a number without a unit, which means milliseconds.", "Add a unit: `30s`, `45m`, `2h`, `7d`."),
    "35": ("A permission that the agent's executor cannot enforce.", "Set `executor: acp`, or remove the permission."),
    "37": ("`isolation: strict` on a job that runs inside its worker.", "Remove the key, or use a `run` job."),
    "36": (
        "A key has an effect in exported CI files only.",
        "Remove the key. Any worker can run the job here; to separate workers, use another environment.",
    ),
    "31": (
        "A placeholder inside a command, such as `${{ entry.title }}`.",
        "Read the value from $BACKLOG_CONTEXT. Text of an entry inside a shell command would be an injection.",
    ),
}


class Model(BaseModel):
    """A part of a file: camelCase keys, no unknown keys, immutable after loading."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=False, strict=True, allow_inf_nan=False
    )


@dataclass(frozen=True, slots=True)
class Document:
    """A text as plain values, with the position of each value."""

    text: str
    file: str
    group: str
    value: Any
    places: Mapping[Path, tuple[int, int]] = field(repr=False)

    def finding(
        self, path: Path, number: str, text: str, *, hint: str = "", shift: int = 0, level: str = "error"
    ) -> Finding:
        """Return a finding at the value under *path*, or at its nearest ancestor."""
        while path and path not in self.places:
            path = path[:-1]
        line, column = self.places.get(path, (1, 1))
        rows = self.text.splitlines()
        source = rows[line - 1] if line <= len(rows) else ""
        return Finding(
            code=f"BW{self.group}{number}",
            text=text,
            file=self.file,
            line=line,
            column=column + shift,
            source=cut(source, 200),
            hint=hint or CODES[number][1],
            level=level,
        )

    def checked(self, model: type[M]) -> M:
        """Validate the value against *model*; raises InvalidFileError with every error."""
        rows = self.text.splitlines()
        findings = [
            self.finding(path, "03", f"{written} can be read as two numbers", hint=_two_ways(written))
            for path, each in _numbers(self.value, ())
            if _LEADING_ZERO.fullmatch(written := self._written(path, rows))
        ]
        try:
            value = model.model_validate(self.value)
        except ValidationError as error:
            findings += [each for each in self._findings(error, model) if each.place not in {f.place for f in findings}]
            raise InvalidFileError(findings) from None
        if findings:
            raise InvalidFileError(findings)
        return value

    def lengths(self, checked: BaseModel, at: Path = ()) -> Iterator[Finding]:
        """Yield warnings for durations under *at* that are bare numbers and look like seconds."""
        value: Any = self.value
        for step in at:
            value = value[step]
        for path, number in duration.bare(checked, value):
            text = f"{'.'.join(map(str, path))}: {number} is {number} milliseconds"
            yield self.finding((*at, *path), "34", text, hint=f"write {number}s, or {number}ms", level="warning")

    def _findings(self, error: ValidationError, model: type[BaseModel]) -> Iterator[Finding]:
        rows = self.text.splitlines()
        for each in error.errors(include_url=False, include_context=False):
            path = tuple(part for part in each["loc"] if isinstance(part, str | int))
            if each["type"] == "extra_forbidden":
                close = suggestion(str(path[-1]), _keys(model))
                yield self.finding(path, "03", f'unknown key "{path[-1]}"', hint=close)
            else:
                where = ".".join(str(part) for part in path) or "the file"
                meant = _meant(each["type"], each["input"], self._written(path, rows))
                text, hint = meant or (cut(each["msg"], 300), "")
                yield self.finding(path, "03", f"{where}: {text}", hint=hint)

    def _written(self, path: Path, rows: Sequence[str]) -> str:
        """Return the plain scalar at a path as it is written in the file, or ""."""
        line, column = self.places.get(path, (0, 0))
        found = _PLAIN.match(rows[line - 1], column - 1) if 0 < line <= len(rows) else None
        return found[0] if found else ""


_LEADING_ZERO = re.compile(r"[-+]?0[0-9]+(\.[0-9]*)?")


def _numbers(value: object, path: Path) -> Iterator[tuple[Path, float]]:
    """Yield every number inside a value."""
    if isinstance(value, Mapping | list):
        for key, each in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _numbers(each, (*path, key))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path, value


def _two_ways(written: str) -> str:
    plain = written.lstrip("+-").lstrip("0") or "0"
    return f'write a text in quotes, "{written}", or the number {"-" * written.startswith("-")}{plain}'


_PLAIN = re.compile(r"[^\s,\[\]{}#'\"]+")


def _meant(kind: str, value: object, written: str) -> tuple[str, str] | None:
    """Return how YAML read a scalar of the wrong type, and how to write it; None if there is no advice."""
    if kind == "string_type" and value is None:
        return "expected a text, and this is empty", 'write "" for an empty text, or remove the key'
    if kind == "string_type" and isinstance(value, bool | int | float):
        what = "a truth" if isinstance(value, bool) else "a number"
        shown = written or str(value)
        return f"expected a text, and {shown} is {what} in YAML", f'write it in quotes: "{shown}"'
    if kind == "bool_type" and str(value).lower() in {"yes", "no", "on", "off", "y", "n"}:
        return f"{value} is a text in YAML 1.2", "write true or false"
    if kind in {"int_type", "float_type"} and isinstance(value, str):
        return f"expected a number, and {cut(value, 40)!r} is a text", "write a plain number, without quotes"
    return None


def suggestion(word: str, words: Iterator[str] | list[str]) -> str:
    """Return `did you mean "..."?` for the nearest word, or ""."""
    near = difflib.get_close_matches(word, list(words), n=1)
    return f'did you mean "{near[0]}"?' if near else ""


def read(text: str, *, file: str, group: str) -> Document:
    """Read one YAML document into plain values; raises InvalidFileError, and no other error, for invalid text.

    Limits are checked on the event stream before any value is built: 256 KiB, depth 32, 20,000 nodes, one document,
    no anchors, aliases or tags. Scalars follow YAML 1.2; a ``version`` stays a text, so 1.10 is not 1.1.
    """
    empty = Document(text, file, group, None, {})
    if len(text.encode("utf-8", "surrogatepass")) > SIZE_MAX:
        raise InvalidFileError([empty.finding((), "02", f"larger than {SIZE_MAX // 1024} KiB")])
    storable(text, file=file, group=group)
    try:
        _guard(empty)
        node = YAML(typ="rt", pure=True).compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        spot: Places = {(): (mark.line + 1, mark.column + 1)} if mark else {}
        problem = " ".join(part for part in (error.problem, error.context) if part)
        raise InvalidFileError([Document(text, file, group, None, spot).finding((), "01", problem)]) from None
    except (ReaderError, YAMLError, ValueError, RecursionError) as error:
        raise InvalidFileError([empty.finding((), "01", cut(str(error).splitlines()[0], 200))]) from None
    places: Places = {}
    value = _value(node, (), places, empty)
    return Document(text, file, group, value, places)


def storable(text: str, *, file: str, group: str) -> None:
    """Check that a database can store a text; raises InvalidFileError with the position of an invalid character."""
    for number, line in enumerate(text.splitlines(), start=1):
        if fault := _unstorable(line):
            column = next(at for at, each in enumerate(line, start=1) if _unstorable(each))
            raise InvalidFileError([Document(text, file, group, None, {(): (number, column)}).finding((), "01", fault)])


def formatted(text: str, *, file: str) -> str:
    """Reformat the indentation of a YAML text; comments, order and values stay. Raises InvalidFileError if invalid."""
    before = read(text, file=file, group="2")
    yaml = YAML()
    yaml.width = 4096
    yaml.preserve_quotes = True
    yaml.indent(mapping=2, sequence=4, offset=2)
    out = StringIO()
    try:
        yaml.dump(yaml.load(text), out)
    except (YAMLError, ValueError, OverflowError):  # the library reads some texts as invalid dates or numbers
        return text
    new = "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"
    return new if read(new, file=file, group="2").value == before.value else text


def _guard(document: Document) -> None:
    depth = nodes = documents = 0
    for event in YAML(typ="rt", pure=True).parse(document.text):
        documents += isinstance(event, DocumentStartEvent)
        nodes += isinstance(event, ScalarEvent | CollectionStartEvent)
        if isinstance(event, CollectionStartEvent):
            depth += 1
        elif type(event).__name__ in {"MappingEndEvent", "SequenceEndEvent"}:
            depth -= 1
        fault = _forbidden(event) or (
            f"deeper than {DEPTH_MAX} levels"
            if depth > DEPTH_MAX
            else f"more than {NODES_MAX} values"
            if nodes > NODES_MAX
            else "more than one document"
            if documents > 1
            else ""
        )
        if fault:
            raise InvalidFileError([_at(document, event).finding((), "02", fault)])


def _forbidden(event: object) -> str:
    if isinstance(event, AliasEvent) or (isinstance(event, NodeEvent) and event.anchor):
        return "anchors and aliases are not allowed, so no merge keys (<<); a text that begins with & or * needs quotes"
    if isinstance(event, ScalarEvent | CollectionStartEvent) and getattr(event, "ctag", None):
        return "tags are not allowed"
    return ""


def _value(node: Node | None, path: Path, places: dict[Path, tuple[int, int]], document: Document) -> Any:  # noqa: ANN401 - YAML holds any value
    if node is None:
        return None
    places[path] = (node.start_mark.line + 1, node.start_mark.column + 1)
    if isinstance(node, SequenceNode):
        return [_value(each, (*path, index), places, document) for index, each in enumerate(node.value)]
    if isinstance(node, MappingNode):
        return _mapping(node, path, places, document)
    folded = isinstance(node, ScalarNode) and node.style == ">"  # ruamel marks each fold there with BEL
    try:
        return _scalar(str(node.tag), str(node.value).replace("\a", "" if folded else "\a"), path)
    except ValueError as error:
        raise InvalidFileError([_at(document, node).finding((), "03", str(error))]) from None


def _mapping(node: MappingNode, path: Path, places: dict[Path, tuple[int, int]], document: Document) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, each in node.value:
        name = str(key.value) if isinstance(key, ScalarNode) else ""
        fault = f'the key "{name}" stands twice' if name in values else _unstorable(name) or _merge(key)
        if fault or not isinstance(key, ScalarNode):
            raise InvalidFileError([_at(document, key).finding((), "01", fault or "a key must be a text")])
        values[name] = _value(each, (*path, name), places, document)
        if values[name] is None:  # an empty value has the position of its key
            places[(*path, name)] = (key.start_mark.line + 1, key.start_mark.column + 1)
    return values


def _merge(key: Node) -> str:
    merges = isinstance(key, ScalarNode) and key.value == "<<" and not key.style
    return 'merge keys are not supported: write the keys out, or put "<<" in quotes if it is the name of a key' * merges


def _scalar(kind: str, text: str, path: Path) -> Any:  # noqa: ANN401 - YAML holds any value
    tag = kind.rsplit(":", 1)[-1]
    if path == ("version",):
        return text
    if tag == "int":
        return _whole(text)
    if tag == "float":
        number = float(text.replace("_", "").lower().replace(".inf", "inf").replace(".nan", "nan"))
        if not math.isfinite(number):
            message = f"{cut(text, 40)} is no finite number"
            raise ValueError(message)
        return number
    if tag == "bool":
        return text.lower() == "true"
    if fault := _unstorable(text):
        raise ValueError(fault)
    return None if tag == "null" else text


def _whole(text: str) -> int | str:
    """Return an integer as YAML 1.2 reads it (without 0b); any other value stays a text."""
    plain = text.replace("_", "").lower()
    base = next((base for mark, base in (("0x", 16), ("0o", 8)) if mark in plain), 10)
    if "0b" in plain and base == BASE_TEN:
        return text
    if len(plain) > DIGITS_MAX:
        message = f"a number of {len(plain)} digits is too large for a database"
        raise ValueError(message)
    try:
        number = int(plain, base)
    except ValueError:
        return text
    if not -INT_MAX <= number < INT_MAX:
        message = f"{cut(text, 40)} is more than a database holds"
        raise ValueError(message)
    return number


def _unstorable(text: str) -> str:
    """Return why no database can store a text, or ""."""
    if "\x00" in text:
        return "a text contains the character NUL"
    return "a text contains a lone surrogate" if any("\ud800" <= each <= "\udfff" for each in text) else ""


def _at(document: Document, node: Node | Event) -> Document:
    """Return the document with the position of one node, for findings there."""
    places: Places = {(): (node.start_mark.line + 1, node.start_mark.column + 1)}
    return Document(document.text, document.file, document.group, None, places)


def _keys(model: type[BaseModel]) -> list[str]:
    """Return every key of this model and of the models inside it."""
    schema = model.model_json_schema(by_alias=True)
    parts = [schema, *schema.get("$defs", {}).values()]
    return sorted({key for part in parts for key in part.get("properties", {})})
