"""D: every statement of the store names the environment, or goes by ids that only its own environment can have found."""

import inspect
import re
import sys

from backlog_worker.store import BULK, Unit
from backlog_worker.store.sql.dialect import METADATA

NAMED = re.compile(
    r"\b(?:FROM|JOIN|UPDATE|INTO)\s+(\w+|\{table\})|self\.(?:select|insert|update|insert_bound|update_bound|write_bound|remove_bound)\(\s*\"(\w+)\""
)
WALLED = re.compile(r":env\b|\benv\b\s*(?:=|:)\s*self\.env|\"env\": (?:self\.)?env|\bHERE\b|_E\.env")
HELD = "goes by ids of entries that were held, or found, in this environment before"
RUN = "goes by ids of runs that were begun, or found, in this environment before"
ROW = "writes rows that carry their environment"
BY_ID = {
    # entries and what belongs to one
    "append": HELD, "history": HELD, "histories": HELD, "facts": HELD, "heads": HELD, "sleep": HELD, "regroup": HELD,
    "keep_inputs": HELD, "input": HELD, "inputs": HELD, "input_versions": HELD, "linked": HELD, "link": HELD,
    "stages": HELD, "standing": HELD, "one_stage": HELD, "legible_stages": HELD, "outputs": HELD, "unwait": HELD, "try_again": HELD,
    "answered": HELD, "begin_again": HELD, "copy": HELD, "forget": HELD, "close": HELD, "approved": HELD,
    "open_reviews": HELD, "show_again": HELD, "receipts_of": HELD,
    "artifacts_of": HELD, "bound_rows": HELD, "inputs_of": HELD, "restore_rows": HELD, "depend": HELD, "redact": HELD,
    "redact_rows": HELD, "restore": HELD, "retire": HELD, "forget_histories": HELD, "approved_at": HELD, "fall": HELD,
    "last_runs": HELD, "failures": HELD, "try_anew": HELD,
    "answer": "goes by the id of a review that `review` found",
    # runs
    "heartbeat": RUN, "still_held": RUN, "take": RUN, "next": RUN, "checkpoint": RUN, "untake": RUN, "hand_over": RUN,
    "tried": RUN, "lost": RUN, "held_stages": RUN, "progress": RUN, "usage": RUN, "add_log": RUN, "log": RUN, "_end_run": RUN,
    # rows that say it themselves
    "file": ROW, "flush": "writes what `hold` has found", "ask": ROW, "spend": ROW, "keep_result": ROW,
    "keep_decision": ROW, "adopt": ROW, "act": ROW, "add_token": ROW, "begin_alert": ROW, "adopt_acts": ROW,
    # rows that were taken, or chosen, in this environment
    "sent": "goes by the id of a wish that `take_wishes` gave", "unsent": "the same",
    "rewrite_wish": "goes by the id of a wish of an entry that was found", "fire_alert": "goes by the id of an open alert",
    "resolve_alert": "the same", "token": "of a token of another environment that is said, and it is refused",
    "use_token": "goes by the id of a token that was checked",
    "_bulk": "the other part of its condition, of BULK, names the environment",
    # the whole database
    "seals": "a seal is over the histories of the whole database", "last_seal": "the same", "seal": "the same",
    "_heads": "the same", "_present": "the same", "_missed": "the same", "sealed_heads": "the same",
    "_unsealed_operations": "the same", "unsealed": "the same", "first_event_at": "the same",
    "artifacts_kept": "older releases kept the artifacts of all environments in one folder",
    "identity": "the id of the database", "environments": "names of environments, nothing of them",
}  # fmt: skip


def texts():
    """The source of every verb, with the constants of its module that it names."""
    for of in Unit.__mro__:
        module = sys.modules[of.__module__]
        if not of.__module__.startswith("backlog_worker.store.sql"):
            continue
        for name, verb in vars(of).items():
            if inspect.isfunction(verb):
                source = inspect.getsource(verb)
                named = [
                    vars(module)[each] for each in set(re.findall(r"\b_?[A-Z][A-Z_]+\b", source)) & set(vars(module))
                ]
                yield name, "\n".join([source, *(str(each) for each in named if isinstance(each, str | dict | tuple))])


def tables(text):
    return {name for pair in NAMED.findall(text) for name in pair if name in METADATA.tables or name == "{table}"}


def test_d_every_statement_names_the_environment_or_is_excused_with_a_reason():
    found = {name: tables(text) for name, text in texts()}
    assert {"entries", "outbox", "leases", "workers", "runs"} <= set().union(*found.values())
    bare = {name for name, text in texts() if tables(text) - {"schema_revisions"} and not WALLED.search(text)}
    assert bare - set(BY_ID) == set(), "name the environment, or say in BY_ID why it is not needed"
    assert set(BY_ID) - bare == set(), "what names the environment needs no excuse"


def test_d_all_bulk_data_is_removed_by_environment():
    assert [kind for kind, (_, where) in BULK.items() if ":env" not in where] == []


def test_d_every_table_says_its_environment_or_belongs_to_a_row_that_does():
    of_another = {
        "entry_inputs": "entry_id", "links": "from_id", "stages": "entry_id", "log_chunks": "run_id",
        "events": "entry_id", "receipts": "decision_id", "redactions": "entry_id",
    }  # fmt: skip
    whole = {"seals", "seal_heads", "identity", "schema_revisions"}
    for name, table in METADATA.tables.items():
        if name not in whole:
            assert of_another.get(name, "env") in table.c, name
