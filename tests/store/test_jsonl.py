"""Two files that a person can read: torn lines, several processes, kills, and a compaction cut off at every step."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from backlog_worker.domain.errors import FullError, InvalidFileError
from backlog_worker.lifecycle import audit, operate, retire, watch
from backlog_worker.store import JsonlStore, migrate
from backlog_worker.testing import bench

FILER = """\
import sys
from backlog_worker import telemetry
from backlog_worker.testing import bench
telemetry.configure(level="ERROR")
made = bench(url=sys.argv[1])
print("ready", flush=True)
for n in range(int(sys.argv[2]), int(sys.argv[3])):
    made.file({"dedupe_key": f"k{n}"})
    print(n, flush=True)
"""


def lines(folder, name):
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def snapshot(store):
    """Everything that a store holds, but for when it was read."""
    with store.read() as unit:
        return {
            name: sorted(str(row) for row in unit.run(f"SELECT * FROM {name}"))
            for name in ("entries", "events", "entry_inputs", "runs", "stages", "outbox", "definitions")
        }


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "backlog"


def test_a_person_reads_the_files_and_the_last_line_of_an_id_counts(folder):
    table = bench(url=f"jsonl://{folder}")
    (filed,) = table.file({"title": "Login loop"})
    operate.edit(table.kit, filed.entry_id, {"owner": "li"}, actor="ana", reason="hers")
    items = [each["put"] for each in lines(folder, "items.jsonl") if each.get("table") == "entries"]
    assert [(each["id"], each["title"], each.get("owner")) for each in items] == [
        (filed.entry_id, "Login loop", ""),
        (filed.entry_id, "Login loop", "li"),
    ]
    events = lines(folder, "events.jsonl")
    assert [each["change"] for each in events] == ["filed", "cleared", "edited"]
    assert events[0]["at"].endswith("+00:00")
    assert snapshot(JsonlStore(folder)) == snapshot(table.kit.store), "what is read again is what was written"


def test_whatever_byte_the_last_transaction_breaks_off_at_what_was_committed_loads(folder, tmp_path):
    table = bench(url=f"jsonl://{folder}")
    table.file({"dedupe_key": "first"})
    whole = snapshot(table.kit.store)
    sizes = {name: (folder / name).stat().st_size for name in ("items.jsonl", "events.jsonl")}
    table.file({"dedupe_key": "second"})
    after = snapshot(table.kit.store)
    content = {name: (folder / name).read_bytes() for name in sizes}
    cuts = 0
    for name, size in sizes.items():
        for at in range(size, len(content[name]), 37 if name == "events.jsonl" else 23):
            torn = tmp_path / f"torn{name}{at}"
            torn.mkdir()
            for each, full in content.items():
                keep = full if each != name else full[:at]
                if name == "events.jsonl" and each == "items.jsonl":
                    keep = full[: sizes[each]]  # events are written first: without them no line commits them
                (torn / each).write_bytes(keep)
            store = JsonlStore(torn)
            assert snapshot(store) == whole, f"{name} cut at {at}"
            with store.begin() as unit:
                unit.see_worker({"name": "w2", "queues": [], "slots": 1, "schema_min": 3, "schema_max": 3})
            assert snapshot(JsonlStore(torn)) == whole, "and what is written next is whole again"
            store.close()
            cuts += 1
    assert cuts > 40
    assert after != whole


def test_a_line_that_somebody_broke_by_hand_is_named_and_nothing_is_dropped(folder):
    table = bench(url=f"jsonl://{folder}")
    table.file({})
    path = folder / "items.jsonl"
    rows = path.read_text().splitlines()
    rows[2] = rows[2][:-3]
    path.write_text("\n".join(rows) + "\n")
    with pytest.raises(InvalidFileError, match=r"items\.jsonl"):
        snapshot(JsonlStore(folder))
    path.write_text('{"format": "of somebody else"}\n')
    with pytest.raises(InvalidFileError, match="not the header"):
        snapshot(JsonlStore(folder))


def test_several_processes_write_and_nothing_is_lost_or_doubled(folder):
    bench(url=f"jsonl://{folder}")
    ranges = [(0, 30), (20, 50), (40, 70)]
    filers = [filer(folder, first, last) for first, last in ranges]
    for each in filers:
        _, said = each.communicate(timeout=90)
        assert each.returncode == 0, said
    table = bench(url=f"jsonl://{folder}")
    with table.kit.store.read() as unit:
        keys = [row[0] for row in unit.run("SELECT dedupe_key FROM entries")]
    assert sorted(keys) == sorted(f"k{n}" for n in range(70))
    assert watch.verify(table.kit) == []
    assert list(audit.verify(table.kit)) == []


def test_a_process_that_is_killed_loses_nothing_that_it_said_was_filed(folder):
    bench(url=f"jsonl://{folder}")
    said = set()
    for kill in range(4):
        with filer(folder, kill * 200, kill * 200 + 200) as process:
            assert process.stdout.readline().strip() == "ready"
            for _ in range(5 + kill):
                said.add(f"k{process.stdout.readline().strip()}")
            time.sleep(0.003 * kill)  # the kill comes at another point of a transaction each time
            os.kill(process.pid, signal.SIGKILL)
    table = bench(url=f"jsonl://{folder}")
    with table.kit.store.read() as unit:
        keys = {row[0] for row in unit.run("SELECT dedupe_key FROM entries")}
    assert said <= keys
    assert watch.verify(table.kit) == []
    assert list(audit.verify(table.kit)) == []


def test_compaction_keeps_what_counts_and_cleanup_does_it(folder):
    table = bench(url=f"jsonl://{folder}")
    table.file(*({} for _ in range(5)))
    table.run(3)
    before, size = snapshot(table.kit.store), (folder / "items.jsonl").stat().st_size
    was, now = table.kit.store.compact()
    assert now < was
    assert (folder / "items.jsonl").stat().st_size < size
    assert snapshot(table.kit.store) == before
    assert snapshot(JsonlStore(folder)) == before
    table.clock.forward(86_400 * 200)
    removed = retire.cleanup(table.kit)["removed"]
    assert (removed["entries"], removed["bytes"] > 0) == (5, True)
    assert list(audit.verify(table.kit)) == []


def test_another_process_follows_a_compaction(folder):
    table = bench(url=f"jsonl://{folder}")
    table.file({})
    other = JsonlStore(folder)
    assert snapshot(other) == snapshot(table.kit.store)
    table.kit.store.compact()
    table.file({})
    assert snapshot(other) == snapshot(table.kit.store)


@pytest.mark.parametrize("step", range(7))
def test_a_compaction_that_is_cut_off_leaves_the_old_pair_or_the_new_one(folder, monkeypatch, step):
    table = bench(url=f"jsonl://{folder}")
    table.file({}, {})
    before = snapshot(table.kit.store)
    calls = 0

    def _dies(original):
        def _call(*arguments, **named):
            nonlocal calls
            calls += 1
            if calls > step:
                raise KeyboardInterrupt
            return original(*arguments, **named)

        return _call

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", _dies(os.fsync))
        patch.setattr(Path, "replace", _dies(Path.replace))
        patch.setattr(Path, "unlink", _dies(Path.unlink))
        with pytest.raises(KeyboardInterrupt):
            table.kit.store.compact()
    assert snapshot(JsonlStore(folder)) == before
    again = JsonlStore(folder)
    with again.begin() as unit:
        unit.see_worker({"name": "w2", "queues": [], "slots": 1, "schema_min": 3, "schema_max": 3})
    assert snapshot(JsonlStore(folder)) == before


@pytest.mark.parametrize("at", [1, 2])
def test_a_disk_that_is_full_is_an_error_to_the_caller_and_nothing_else(folder, monkeypatch, at):
    """At the events, or at the rows that would have committed them."""
    table = bench(url=f"jsonl://{folder}")
    table.file({"dedupe_key": "first"})
    before, calls = snapshot(table.kit.store), iter(range(1, 9))

    def _full(_handle):
        if next(calls) >= at:
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", _full)
        with pytest.raises(FullError, match="No space"):
            table.file({"dedupe_key": "second"})
    kept = snapshot(table.kit.store)
    assert kept == snapshot(JsonlStore(folder)), "memory and files say the same"
    assert kept == before or at == 2, "a line that is whole counts, though nobody was told so"
    table.file({"dedupe_key": "third"})
    assert snapshot(table.kit.store) == snapshot(JsonlStore(folder))
    assert list(audit.verify(table.kit)) == []


def test_a_file_of_an_older_revision_is_read_and_migrated(folder):
    from alembic import command

    store = JsonlStore(folder)
    with store.connected() as connection:
        config = migrate._config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
        connection.commit()
    assert lines(folder, "items.jsonl")[0]["revision"] == 2
    assert migrate.upgrade(JsonlStore(folder)) == (2, migrate.head())
    assert lines(folder, "items.jsonl")[0]["revision"] == migrate.head()


def test_a_backup_is_a_backlog(folder, tmp_path):
    table = bench(url=f"jsonl://{folder}")
    table.file({})
    table.kit.store.backup(tmp_path / "copy")
    assert snapshot(JsonlStore(tmp_path / "copy")) == snapshot(table.kit.store)


def filer(folder, first, last):
    return subprocess.Popen(
        [sys.executable, "-c", FILER, f"jsonl://{folder}", str(first), str(last)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip


@pytest.mark.parametrize("before", [1, 5])
@pytest.mark.parametrize("afterwards", [1, 5])
def test_a4_files_that_were_put_aside_are_never_taken_for_those_begun_anew(folder, tmp_path, before, afterwards):
    writer, follower = bench(url=f"jsonl://{folder}"), bench(url=f"jsonl://{folder}")
    writer.file(*({"dedupe_key": f"old{n}"} for n in range(before)))
    snapshot(follower.kit.store)
    with writer.kit.store.exclusively():
        writer.kit.store.move_to(tmp_path / "aside")
    again = bench(url=f"jsonl://{folder}")
    again.file(*({"dedupe_key": f"new{n}"} for n in range(afterwards)))
    assert snapshot(follower.kit.store) == snapshot(again.kit.store) == snapshot(JsonlStore(folder))
    assert len(snapshot(follower.kit.store)["entries"]) == afterwards
