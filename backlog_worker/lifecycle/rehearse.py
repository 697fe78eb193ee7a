"""Rehearse a pipeline on a recorded session: the real planner and gates, a store in memory, and no agent."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from backlog_worker.domain.bell import Bell, Step
from backlog_worker.domain.entry import FINAL, Entry, Status
from backlog_worker.domain.errors import InvalidInputError, NotFoundError
from backlog_worker.domain.frontier import StageStatus
from backlog_worker.domain.masking import cut, masked_value
from backlog_worker.domain.outcome import FailureKind
from backlog_worker.domain.review import Answer, Decided, ReviewKind
from backlog_worker.domain.roles import everything
from backlog_worker.lifecycle import Kit, again, claim, dispatch, intake, review, stage

SCHEMA = "backlog-worker/recording@1"
TICKS = 400
STEP_SECONDS = 30.0
# An earlier run may have taken a stage that was skipped, with a void checkpoint.
PERFORMED = frozenset({StageStatus.COMPLETED, StageStatus.FAILED, StageStatus.WAITING, StageStatus.RUNNING})


Text = Annotated[str, StringConstraints(max_length=1_000_000)]
Within = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]


class _Part(BaseModel):
    """A part of a recording: what nobody reads is refused."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class RecordedEntry(_Part):
    """The entry of a recorded run; intake judges its values."""

    title: Any = "recorded"
    labels: Any = []
    priority: Any = "medium"
    input: Any = {}


class RecordedAnswer(_Part):
    """What a job answered in one attempt."""

    result: Literal["done", "faulted", "refused", "throttled", "asked"] = "done"
    kind: FailureKind | None = None
    reason: Text | None = None
    data: Any = None
    output: Any = None
    artifacts: dict[str, Text] = {}
    log: list[Text] = []
    usage: dict[str, Any] | None = None
    wait: Within | None = Field(default=None, alias="waitMs")
    asks: Text | None = None
    detail: Text | None = None


class RecordedWord(_Part):
    """What a person said."""

    answer: Answer | None = None
    value: Any = None
    reason: Text | None = None


class Expected(_Part):
    """How a run is to end."""

    status: Text = ""
    jobs: dict[str, Text] = {}
    gates: dict[str, dict[str, Text]] = {}


class Recording(_Part):
    """A recording as a file holds it."""

    schema_: Literal["backlog-worker/recording@1"] = Field(alias="schema")
    pipeline: Text
    recorded_from: Text = ""
    entry: RecordedEntry = RecordedEntry()
    answers: dict[str, list[RecordedAnswer]] = {}
    people: dict[str, RecordedWord] = {}
    expect: Expected = Expected()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """The result of a rehearsal, and where it differs from what the recording expects."""

    name: str
    status: str
    jobs: Mapping[str, str]
    gates: Mapping[str, Mapping[str, str]]
    faults: tuple[str, ...]


def checked(value: Mapping[str, Any], *, name: str) -> dict[str, Any]:
    """Check the shape of a recording, and return it without what it does not say; raises InvalidInputError."""
    if value.get("schema") != SCHEMA:
        message = f"{name}: not a recording; its schema is {value.get('schema')!r:.100}, wanted {SCHEMA}"
        raise InvalidInputError(message)
    try:
        found = Recording.model_validate(value)
    except ValidationError as error:
        places = [
            f"{name}: {cut('.'.join(map(str, each['loc'])), 200)}: {each['msg']}"
            for each in error.errors(include_url=False, include_context=False)
        ]
        hint = "compare with what `backlog-worker pipeline record RUN` prints"
        raise InvalidInputError("\n".join(places[:20]), hint=hint) from None
    return found.model_dump(mode="json", by_alias=True, exclude_unset=True)


def recorded(kit: Kit, run_id: str) -> dict[str, Any]:
    """Record a run: the answers of each job and of people, and how it ended; secrets are masked."""
    _, entry, pipeline, stages = again.entry_of(kit, run_id)
    with kit.store.read() as unit:
        given = unit.input(entry.id, entry.input_sha256)
        reviews = [each for each in unit.reviews(kit.env, answered=True, most=100_000) if each.entry_id == entry.id]
    performed = {job_id: each for job_id, each in stages.items() if each.takes and each.status in PERFORMED}
    people = {
        each.job_id: {"answer": each.answer, "value": each.value, "reason": each.reason}
        for each in reviews
        if each.kind != ReviewKind.DEAD_LETTER and each.answer in set(Answer)
    }
    answers = {
        job_id: [
            *map(_failed, stage.tries),
            *([{"result": "done", "output": stage.output}] if stage.sha256 else []),
            *([_refusal(stage.reason)] if stage.reason and not stage.sha256 and not stage.tries else []),
        ]
        for job_id, stage in performed.items()
    }
    value = {
        "schema": SCHEMA,
        "pipeline": pipeline.name if pipeline else entry.pipeline,
        "recorded_from": run_id,
        "entry": {"title": entry.title, "labels": list(entry.labels), "priority": entry.priority, "input": given or {}},
        "answers": answers,
        "people": people,
        "expect": {
            "status": str(entry.status),
            "jobs": {job_id: str(each.status) for job_id, each in stages.items() if each.status != StageStatus.PENDING},
            "gates": {
                job_id: {gate["id"]: gate["result"] for gate in each.gates}
                for job_id, each in stages.items()
                if each.gates
            },
        },
    }
    masked: dict[str, Any] = {key: masked_value(each) for key, each in value.items()}
    return masked


def rehearse(kit: Kit, recording: Mapping[str, Any], forward: Callable[[float], None], *, name: str) -> Rehearsal:
    """Run the pipeline of a recording to its end on *kit*, whose executors answer from it; *forward* moves its clock.

    Raises InvalidInputError if it is not a recording, and NotFoundError if its pipeline is not in force.
    """
    recording = checked(recording, name=name)
    with kit.store.read() as unit:
        if kit.book.pipeline(unit, str(recording["pipeline"])) is None:
            message = f"{name}: no pipeline {recording['pipeline']} is in force"
            raise NotFoundError(message)
    entry_id = _filed(kit, recording)
    for _ in range(TICKS):
        _rung(kit, [*dispatch.tick(kit), *claim.sweep(kit)])
        forward(STEP_SECONDS)
        entry = _entry(kit, entry_id)
        if entry.status in FINAL or (not _answered(kit, entry_id, recording) and entry.status == Status.ESCALATED):
            break
    return _compared(kit, entry_id, recording, name)


def _filed(kit: Kit, recording: Mapping[str, Any]) -> str:
    given = recording.get("entry", {})
    record = {
        "title": given.get("title", "recorded"),
        "dedupe_key": kit.new_id("rehearsal"),
        "pipeline": recording["pipeline"],
        "labels": given.get("labels", []),
        "priority": given.get("priority", "medium"),
        "created_at": "2026-01-01T00:00:00Z",
        "input": given.get("input", {}),
    }
    (filed,) = intake.file(kit, [("recording", record)], actor="rehearsal", channel="rehearsal")
    if filed.error or filed.bars:
        message = f"the recorded entry cannot run: {filed.error or filed.reason}"
        raise InvalidInputError(message)
    return filed.entry_id


def _rung(kit: Kit, bells: list[Bell]) -> None:
    """Answer bells until none is left."""
    waiting = list(bells)
    while waiting:
        bell = waiting.pop(0)
        if bell.step == Step.CLAIM:
            waiting += claim.take(kit, bell.ids)
        elif bell.step == Step.STAGE:
            waiting += stage.advance(kit, *bell.ids)


def _answered(kit: Kit, entry_id: str, recording: Mapping[str, Any]) -> bool:
    """Answer the run's questions as the recorded people did; questions without a recorded answer are approved."""
    with kit.store.read() as unit:
        asked = [each for each in unit.open_reviews(entry_id) if each.kind != ReviewKind.DEAD_LETTER]
    for each in asked:
        said = dict(recording.get("people", {}).get(each.job_id, {}))
        usual = Answer.ANSWER if each.kind == ReviewKind.QUESTION else Answer.APPROVE
        answer = Answer(said.get("answer") or usual)
        value = said.get("value", {} if answer == Answer.ANSWER else None)
        decided = Decided(answer=answer, actor="rehearsal", reason=str(said.get("reason") or "recorded"), value=value)
        stand_in = replace(everything("rehearsal"), roles=frozenset(each.roles))
        _, bells = review.decide(kit, each.id, decided, caller=stand_in)
        _rung(kit, bells)
    return bool(asked)


def _compared(kit: Kit, entry_id: str, recording: Mapping[str, Any], name: str) -> Rehearsal:
    entry = _entry(kit, entry_id)
    with kit.store.read() as unit:
        stages = unit.stages({entry_id: str(entry.pipeline_hash)})[entry_id]
    jobs = {job_id: str(each.status) for job_id, each in stages.items()}
    gates = {job_id: {gate["id"]: str(gate["result"]) for gate in each.gates} for job_id, each in stages.items()}
    expect = dict(recording.get("expect", {}))
    faults = []
    if expect.get("status") and expect["status"] != str(entry.status):
        faults.append(f"the entry is {entry.status}, expected {expect['status']}: {entry.reason}")
    for job_id, status in dict(expect.get("jobs", {})).items():
        if jobs.get(job_id, "not reached") != status:
            why = str((stages[job_id].reason or {}).get("text", "")) if job_id in stages else ""
            faults.append(
                f"{job_id} is {jobs.get(job_id, 'not reached')}, expected {status}{f': {why}' if why else ''}"
            )
    for job_id, wanted in dict(expect.get("gates", {})).items():
        for gate, result in wanted.items():
            if gates.get(job_id, {}).get(gate, "not asked") != result:
                faults.append(
                    f"gate {gate} of {job_id} says {gates.get(job_id, {}).get(gate, 'nothing')}, expected {result}"
                )
    return Rehearsal(name=name, status=str(entry.status), jobs=jobs, gates=gates, faults=tuple(faults))


def _entry(kit: Kit, entry_id: str) -> Entry:
    with kit.store.read() as unit:
        entry = unit.entry(entry_id)
    if entry is None:
        raise NotFoundError
    return entry


def _failed(line: Mapping[str, Any]) -> dict[str, Any]:
    return {"result": line.get("result", "faulted")} | {name: line.get(name) for name in ("kind", "reason", "data")}


def _refusal(reason: Mapping[str, Any] | None) -> dict[str, Any]:
    said = dict(reason or {})
    return {"result": "refused", "kind": said.get("kind", "execution"), "reason": said.get("text", "")}
