"""Which bells are rung again: one is enough for each entry, and only a bell that is lost is rung once more.

A bell that waits in the broker while every slot is taken is not lost, however long it waits. It counts as lost where
it was never sent, or where a slot stands idle that would have answered it; then it is rung again at once, or after 2 s,
4 s ... 60 s. Whatever was lost while all slots were taken comes back as they fall idle.
"""

from collections.abc import Sequence
from datetime import timedelta

from backlog_worker.domain.bell import Bell, Step, claim_bell, stage_bell
from backlog_worker.lifecycle import Kit
from backlog_worker.store import Unit

READY_FOR = timedelta(minutes=10)  # a bell that an idle slot does not answer for so long sends its entry back
SWEPT = 50
LOST_AFTER = 60.0  # seconds after which a bell counts as lost that asks for no slot of an agent
NEVER = 1e9
STAGES, REVIEWS, WISHES = "stages", "dead_letter", "writeback"


def rung_again(kit: Kit) -> list[Bell]:
    """Return the bells that are lost, and one for write-backs that came due."""
    within = kit.seen_within.total_seconds()
    with kit.store.begin(actor="sweep") as unit:
        stages = unit.ring_stages_unsent(SWEPT)
        entries = unit.ring_unsent(kit.env, SWEPT)
        idle = _idle(kit, unit)
        stages += unit.ring_stages_again(idle)
        entries += unit.ring_again(kit.env, idle - len(stages))
        # Where nobody listens a bell only waits, and a second one would wait beside it.
        told = unit.ring_reviews(kit.env, LOST_AFTER if unit.slots(REVIEWS, within) else NEVER, SWEPT)
        due = unit.ring_wishes(LOST_AFTER if unit.slots(WISHES, within) else NEVER)
    bells = [stage_bell(run, job, number, ring) for run, job, number, ring in stages]
    bells += [claim_bell((entry,), attempt, ring) for entry, attempt, ring in entries]
    bells += [Bell(step=Step.HUMAN_REVIEW, ids=(entry,)) for entry in told]
    return bells + ([Bell(step=Step.SEND)] if due else [])


def keep_ready(kit: Kit, unit: Unit) -> None:
    """Let ready entries stay so while every slot is taken: nobody could have answered their bells, which still wait."""
    if unit.slots(STAGES, kit.seen_within.total_seconds()) and _idle(kit, unit) <= 0:
        unit.keep_ready(kit.env, READY_FOR.total_seconds())


def unheard(kit: Kit, bells: Sequence[Bell]) -> None:
    """Note bells that could not be sent, so that the next sweep rings them whatever the slots do."""
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
    """Count the slots that nobody works in; a bell of light entries is one piece of work."""
    light = {name for name, pipeline in kit.book.pipelines(unit).items() if pipeline.light}
    busy = {(worker, "" if pipeline in light else run) for worker, run, pipeline in unit.at_work()}
    return unit.slots(STAGES, kit.seen_within.total_seconds()) - len(busy)
