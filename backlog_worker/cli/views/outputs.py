"""What jobs are given and return, as text: no braces, the difference to the attempt before, and where files lie."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backlog_worker.cli.output import block, content_of_file, facts
from backlog_worker.domain.errors import NotFoundError

if TYPE_CHECKING:
    from backlog_worker.domain.frontier import Stage
    from backlog_worker.lifecycle import Kit

LINES = 40


def prose(value: object) -> str:
    """Return a value of JSON as indented text."""
    return "\n".join(_lines(value))


def _lines(value: object) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, each in value.items():
            yield from _under(f"{name}:", each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _under("-", each)
    else:
        yield from ("" if value is None else str(value)).split("\n")


def _under(head: str, value: object) -> Iterator[str]:
    """Yield a value behind its name, or indented under it where it has several lines."""
    lines = list(_lines(value))
    if len(lines) <= 1 and not (isinstance(value, Mapping | list | tuple) and value):
        yield f"{head} {''.join(lines)}".rstrip()
    elif head == "-":
        yield f"- {lines[0]}"
        yield from (f"  {line}" for line in lines[1:])
    else:
        yield head
        yield from (f"  {line}" for line in lines)


def show_output(stage: "Stage", folder: Path, *, most: int = LINES) -> None:
    """Print what a job returned, how that differs from the attempt before, its gates, and where its files lie."""
    last = stage.tries[-1].get("data") if stage.tries else None
    now = stage.output if stage.output is not None else last
    if now is None and not stage.artifacts:
        facts((f"{stage.job_id}", "returned nothing that is kept"))
    if now is not None:
        title = "Output of" if stage.output is not None else "What failed at"
        block(f"{title} {stage.job_id} (attempt {max(1, stage.attempts)})", prose(now), most=most)
    if stage.output is not None and last is not None:
        changed = difflib.unified_diff(prose(last).split("\n"), prose(now).split("\n"), lineterm="", n=1)
        block("Difference to the attempt before", "\n".join(list(changed)[2:]) or "none", most=most)
    for each in stage.artifacts:
        facts(("file", f"{each['name']}, {each['size']} bytes"), ("lies at", str(folder / str(each["uri"]))))
    show_gates(stage.gates)


def print_artifact(of: "Kit", found: Sequence[Mapping[str, Any]], name: str) -> None:
    """Print one artifact: as it is into a pipe, with control characters shown on a terminal."""
    chosen = [each for each in found if each["name"] == name]
    if not chosen:
        message = f"this run has no artifact {name}"
        raise NotFoundError(message, hint=f"one of: {', '.join(str(each['name']) for each in found) or 'none'}")
    content = of.artifacts.read(str(chosen[-1]["sha256"]))
    if content is None:
        message = f"{name} is on record, and its file is gone"
        raise NotFoundError(message, hint="retention removed it, or the folder of artifacts is elsewhere")
    content_of_file(content)


def show_gates(gates: Sequence[Mapping[str, Any]]) -> None:
    """Print what gates said: for people first the message of the one who wrote the gate."""
    facts(*((f"gate {each['id']}", gate_words(each)) for each in gates))


def gate_words(gate: Mapping[str, Any]) -> str:
    """Return what one gate said."""
    if gate["result"] == "pass":
        return "pass"
    words = [str(each) for each in (gate.get("message"), gate.get("why")) if each]
    return f"{gate['result']}: {'; '.join(words)}" if words else str(gate["result"])
