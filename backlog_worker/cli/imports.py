"""entry import: file every record of a file, and report the result of each."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from backlog_worker.cli.access import DryRun, kit
from backlog_worker.cli.entries import entry
from backlog_worker.cli.output import following, say, shown, table, talk
from backlog_worker.domain.masking import cut

if TYPE_CHECKING:
    from backlog_worker.lifecycle import Kit
    from backlog_worker.lifecycle.intake import Filed

FINDINGS_SHOWN = 20


def register(_app: typer.Typer) -> None:
    """Add the command of this module to those of entries."""
    entry.command("import")(import_file)


def import_file(
    path: Annotated[Path, typer.Argument(help="An export of GitHub, GitLab or Jira, .json, .jsonl, .csv or .yml.")],
    dry_run: DryRun = False,
    pipeline: Annotated[str, typer.Option(help="The pipeline for records that name no pipeline.")] = "spec",
) -> None:
    """File every record of a file, once; ends with status 1 where records were refused, and the others are filed."""
    with_kit, given = kit()
    told = _Told(dry_run=dry_run)
    for each in filed(with_kit, path, actor=given.who, pipeline=pipeline, dry_run=dry_run):
        told.add(each)
    shown("backlog-worker/import", told.data(), told.show)
    if told.refused:
        raise SystemExit(1)


def filed(of: "Kit", path: Path, *, actor: str, pipeline: str = "spec", dry_run: bool = False) -> "Iterator[Filed]":
    """File the records of a file; one without pipeline, date or input gets the defaults of `entry add`."""
    from backlog_worker.cli.screen import counted
    from backlog_worker.integrations import files
    from backlog_worker.lifecycle import intake

    now = intake.within(of, actor, lambda unit: unit.now(), dry_run=dry_run)
    missing = {"pipeline": pipeline, "created_at": now.isoformat()}  # the database's time, not this host's
    read = counted(files.readable(files.records(path), path), path.name)
    filled = ((place, _with_input({**missing, **each}) if isinstance(each, Mapping) else each) for place, each in read)
    return intake.file(of, filled, actor=actor, channel="import", dry_run=dry_run)


def _with_input(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record with the title in its input, if the record has only a body of its own."""
    given = record.get("input", {})
    plain = isinstance(given, dict) and set(given) <= {"body"}
    return {**record, "input": {"title": record.get("title"), **given}} if plain else record


@dataclass(slots=True)
class _Told:
    """The results of the records of a file: counts, and every refusal."""

    dry_run: bool
    counts: dict[str, int] = field(default_factory=dict)
    bars: dict[str, int] = field(default_factory=dict)
    refused: "list[Filed]" = field(default_factory=list)
    passed: dict[str, int] = field(default_factory=dict)
    samples: "list[Filed]" = field(default_factory=list)

    def add(self, each: "Filed") -> None:
        """Count the result of one record."""
        said = "done before" if each.status == "completed" else each.status
        word = "refused" if each.error else "skipped" if each.passed else said if each.new else "known before"
        self.counts[word] = self.counts.get(word, 0) + 1
        for bar in each.bars:
            self.bars[bar] = self.bars.get(bar, 0) + 1
        if each.error:
            self.refused.append(each)
        elif each.passed:
            self.passed[each.passed] = self.passed.get(each.passed, 0) + 1
        elif len(self.samples) < FINDINGS_SHOWN and self.dry_run:
            self.samples.append(each)

    def data(self) -> dict[str, Any]:
        """Return the results as JSON data."""
        refused = [
            {
                "place": str(each.place),
                "line": getattr(each.place, "line", None),
                "record": getattr(each.place, "record", None),
                "number": each.number,
                "url": each.url,
                "title": each.title,
                "error": each.error,
            }
            for each in self.refused
        ]
        counted = {"counts": self.counts, "bars": self.bars, "skipped": self.passed}
        return {**counted, "refused": refused, "dry_run": self.dry_run}

    def show(self) -> None:
        """Print it for people, the first refusals in words."""
        if self.samples:
            rows = [(s.place, cut(s.title, 60), s.status or "known before", s.score, s.reason) for s in self.samples]
            table("", ("from", "title", "status", "score", "why"), rows)
        for each in self.refused[:FINDINGS_SHOWN]:
            talk(f"{_named(each)}: refused: {each.error}")
        if len(self.refused) > FINDINGS_SHOWN:
            talk(f"{len(self.refused) - FINDINGS_SHOWN} more were refused; --json names all of them")
        for why, number in sorted(self.passed.items()):
            talk(f"{number} skipped: {why}")
        told = ", ".join(f"{number} {word}" for word, number in sorted(self.counts.items())) or "nothing"
        barred = ", ".join(f"{number} {bar}" for bar, number in sorted(self.bars.items()))
        say(("would file: " if self.dry_run else "filed: ") + told + (f" ({barred})" if barred else ""))
        following("backlog-worker up" if not self.dry_run else "the same without --dry-run")


def _named(each: "Filed") -> str:
    """Return the name of a record: its location, its number in the file, and its id at the source."""
    record = getattr(each.place, "record", 0)
    number = f"#{each.number}" if each.number.isdigit() else each.number
    called = " ".join(part for part in (number, each.url, f'"{cut(each.title, 60)}"' if each.title else "") if part)
    return f"{each.place}" + (f" record {record}" if record else "") + (f" ({called})" if called else "")
