"""Which run, review or write-back a person means: by its own id or a prefix of it, or by its entry."""

from backlog_worker.domain.errors import NotFoundError, UsageError
from backlog_worker.domain.ident import id_part
from backlog_worker.lifecycle import Kit
from backlog_worker.lifecycle.lookup import beginning, id_of, only


def run_of(kit: Kit, text: str) -> str:
    """Return the id of a run, given its own id, or the id of the last run of a given entry.

    Raises NotFoundError, or UsageError that lists the candidates.
    """
    with kit.store.read() as unit:
        if unit.run_of(text):
            return text
        runs = unit.runs_by_id(beginning(unit, "runs", text, "run"))
        chosen = {each: f"attempt {runs[each]['attempt']} of {runs[each]['entry_id']}" for each in sorted(runs)}
    if not text.startswith("run_") and (entry := _entry(kit, text, alone=not chosen)):
        with kit.store.read() as unit:
            chosen |= {run["id"]: f"the last of {entry}" for run in unit.runs(entry, most=1)}
    if not chosen:
        message = f"there is no run {text}, and no matching entry has one"
        raise NotFoundError(message, hint="backlog-worker run list")
    return only(text, chosen, "runs", "name one by its id")


def review_of(kit: Kit, text: str) -> str:
    """Return the id of a review, given its own id, or the id of the open review of a given entry.

    Raises NotFoundError, or UsageError that lists the candidates.
    """
    with kit.store.read() as unit:
        if exact := unit.review(text):
            return exact.id
        found = [unit.review(each) for each in beginning(unit, "reviews", text, "rev")]
        chosen = {each.id: f"{each.kind} of {each.entry_id}: {each.question}" for each in found if each}
    if not text.startswith("rev_") and (entry := _entry(kit, text, alone=not chosen)):
        with kit.store.read() as unit:
            chosen |= {each.id: f"{each.kind} of {entry}: {each.question}" for each in unit.open_reviews(entry)}
    if not chosen:
        message = f"there is no review {text}, and no matching entry waits for one"
        raise NotFoundError(message, hint="backlog-worker review list")
    return only(text, chosen, "reviews", "name one by its id")


def told_of(kit: Kit, text: str) -> str:
    """Return the id of the entry whose record is meant, given the entry or the id of its write-back."""
    if id_part(text, "bl"):
        return id_of(kit, text)
    with kit.store.read() as unit:
        wishes = [unit.wish(each) for each in beginning(unit, "outbox", text, "wb")]
        chosen = {str(each["entry_id"]): f"{each['id']} to {each['target']}" for each in wishes if each}
    return only(text, chosen, "write-backs", "name one by its id") if chosen else id_of(kit, text)


def _entry(kit: Kit, text: str, *, alone: bool) -> str:
    """Return the id of the entry that a text names, or nothing where it names none and that is not *alone* in doubt."""
    try:
        return id_of(kit, text, words=False)
    except NotFoundError:
        return ""
    except UsageError:
        if alone:
            raise
        return ""
