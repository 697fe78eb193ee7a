"""Which bells are rung again: each entry needs one, and only a lost bell is repeated.

A bell that waits in the broker while every slot is taken is not lost, however long it waits. It counts as lost if it
was never sent, or if a slot that could answer it is idle; then it is rung again at once, and after 2 s, 4 s ... 60 s.
Bells lost while all slots were taken are repeated as slots become idle.
"""

from collections.abc import Sequence
from datetime import timedelta

from backlog_worker.domain.bell import Bell, Step, claim_bell, stage_bell
from backlog_worker.lifecycle import Kit
from backlog_worker.store import Unit

READY_FOR = timedelta(minutes=10)  # an entry returns to the queue if an idle slot does not answer its bell for so long
SWEPT = 50
LOST_AFTER = 60.0  # seconds after which a bell that needs no agent slot counts as lost
NEVER = 1e9
STAGES, REVIEWS, WISHES = "stages", "dead_letter", "writeback"


def rung_again(kit: Kit) -> list[Bell]:
    """Return the lost bells, and one for write-backs that are due."""
    within = kit.seen_within.total_seconds()
    with kit.store.begin(actor="sweep") as unit:
        stages = unit.ring_stages_unsent(SWEPT)
        entries = unit.ring_unsent(kit.env, SWEPT)
        idle = _idle(kit, unit)
        stages += unit.ring_stages_again(idle)
        entries += unit.ring_again(kit.env, idle - len(stages))
        # Without a listener a second bell would only wait beside the first.
        told = unit.ring_reviews(kit.env, LOST_AFTER if unit.slots(REVIEWS, within) else NEVER, SWEPT)
        due = unit.ring_wishes(LOST_AFTER if unit.slots(WISHES, within) else NEVER)
    bells = [stage_bell(run, job, number, ring) for run, job, number, ring in stages]
    bells += [claim_bell((entry,), attempt, ring) for entry, attempt, ring in entries]
    bells += [Bell(step=Step.HUMAN_REVIEW, ids=(entry,)) for entry in told]
    return bells + ([Bell(step=Step.SEND)] if due else [])


def keep_ready(kit: Kit, unit: Unit) -> None:
    """Extend the time limit of ready entries while every slot is taken, since nobody could answer their bells."""
    if unit.slots(STAGES, kit.seen_within.total_seconds()) and _idle(kit, unit) <= 0:
        unit.keep_ready(kit.env, READY_FOR.total_seconds())


def unheard(kit: Kit, bells: Sequence[Bell]) -> None:
    """Mark bells that could not be sent, so that the next sweep repeats them even if no slot is idle."""
    if not bells:
        return
    claims = [entry for bell in bells if bell.step == Step.CLAIM for entry in bell.ids]
    stages = [(bell.ids[0], bell.ids[1]) for bell in bells if bell.step == Step.STAGE]
    with kit.store.begin(actor="ring") as unit:
        unit.unheard(claims, stages)
        unit.reviews_unheard([bell.ids[0] for bell in bells if bell.step == Step.HUMAN_REVIEW])
        if any(bell.step == Step.SEND for bell in bells):
            unit.wishes_unheard()


def _idle(kit: Kit, unit: Unit) -> int:
    """Return the number of idle slots; a bell of several light entries takes one slot."""
    light = {name for name, pipeline in kit.book.pipelines(unit).items() if pipeline.light}
    busy = {(worker, "" if pipeline in light else run) for worker, run, pipeline in unit.at_work()}
    return unit.slots(STAGES, kit.seen_within.total_seconds()) - len(busy)
