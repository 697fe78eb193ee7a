"""Compare the files of this process with the definitions in force; nothing is written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from backlog_worker.domain.errors import InvalidFileError
from backlog_worker.lifecycle import Kit
from backlog_worker.lifecycle.book import STORED
from backlog_worker.lifecycle.enact import home
from backlog_worker.lifecycle.reading import Read
from backlog_worker.store import PIPELINE, POLICY


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The files of this process compared with what is in force: invalid, different, or without a file."""

    wrong: Mapping[str, InvalidFileError]
    differs: tuple[str, ...]

    @property
    def words(self) -> tuple[str, ...]:
        """Return all findings, one text each."""
        return (*(str(error) for error in self.wrong.values()), *self.differs)


def standing(kit: Kit) -> Standing:
    """Compare the files of this process with what is in force; nothing is written."""
    book = kit.book
    _look(kit)
    differs = compared(kit, book.files)
    with kit.store.read() as unit:
        live = dict(unit.live_hashes(kit.env))
        followed = home(kit, unit)
    if not live and book.files:
        differs.append("nothing is in force yet: the files of this folder come into force with `up` or the first entry")
    bad = any(not file.endswith(STORED) for file in book.findings)
    here = {each.key for each in book.files}
    gone = sorted(key.partition("/")[2] for key in live if key.startswith(f"{PIPELINE}/") and key not in here)
    if book.files and gone and not bad:
        differs.append(f"no file here: {', '.join(gone)}; `backlog-worker pipeline retire NAME --reason TEXT` ends one")
    if followed and followed != kit.definitions.place and book.files:
        differs.append(f"the fleet follows {followed}, not {kit.definitions.place}")
    return Standing(wrong=dict(book.findings), differs=tuple(differs))


def compared(kit: Kit, files: Sequence[Read]) -> list[str]:
    """Return the files that differ from what is in force; none if nothing is in force."""
    with kit.store.read() as unit:
        live = dict(unit.live_hashes(kit.env))
        return [
            _differs(each, live.get(each.key), unit.retired_by(kit.env, each.file.kind, each.name))
            for each in files
            if live and live.get(each.key) != each.found.hash
        ]


def _differs(each: Read, live: str | None, retired: str) -> str:
    """Return how a file differs from what is in force, and the command that applies it."""
    name = each.name if each.file.kind == PIPELINE else ""
    how = f"backlog-worker {each.file.kind} apply {name}".rstrip() + " --reason TEXT"
    instead = live[:6] if live else "retired" if retired else "none"
    return f"{each.file.file}: {each.words} is not in force ({instead} is); `{how}` puts it in force"


def invalid(kit: Kit) -> int:
    """Count invalid files of the folder that the fleet follows, and definitions that this release cannot read."""
    _look(kit)
    with kit.store.read() as unit:
        ours = home(kit, unit) in {"", kit.definitions.place}
    return sum(ours or file.endswith(STORED) for file in kit.book.findings)


def _look(kit: Kit) -> None:
    """Read changed files, outside of any transaction; the fleet applies them with its next tick."""
    if kit.book.looked and not kit.definitions.changed():
        return
    with kit.store.read() as unit:
        live = unit.live_hashes(kit.env)
        people = kit.book.policy(unit).people if f"{POLICY}/{POLICY}" in live else ()
    kit.book.look(kit.definitions, people)
    kit.book.behind = True
