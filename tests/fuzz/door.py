"""What a door is, and how long hostile input is put through it."""

import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import SkipTest

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import SearchStrategy

from backlog_worker.domain.errors import BacklogError

FOUND = Path(__file__).parent / "found"  # what failed in a long run, one file each; git ignores it


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """One way in: what comes through it, and a check that lets nothing out but our own errors."""

    name: str
    inputs: SearchStrategy[Any]
    check: Callable[[Any, Any], None]  # the world and one input
    world: Callable[[Path], AbstractContextManager[Any]]
    examples: int = 100


@contextmanager
def nothing(_folder: Path) -> Iterator[None]:
    """Stand for the world of a door that needs none."""
    yield


def ours(call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Call, and return what came; one of our own errors is an answer too, and every other one fails."""
    try:
        return call(*arguments, **named)
    except BacklogError as error:
        assert str(error), f"{type(error).__name__} without a word"
        return error


def put(door: Door, world: Any, examples: int) -> None:
    """Put so many inputs through a door; an input that fails is made small and shown."""

    @settings(
        max_examples=examples,
        deadline=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    )
    @given(door.inputs)
    def _each(value: Any) -> None:
        door.check(world, value)

    _each()


def survey(door: Door, folder: Path, minutes: float) -> dict[str, str]:
    """Put inputs through a door for so many minutes; returns each different failure with the first input of it."""
    ends, rounds, found = time.monotonic() + minutes * 60, 0, {}
    while time.monotonic() < ends:
        rounds += 1
        (folder / str(rounds)).mkdir(parents=True)
        with door.world(folder / str(rounds)) as world, suppress(SkipTest):
            _survey(door, world, found, ends)
    print(f"{door.name}: {rounds} rounds, {len(found)} findings", flush=True)
    return found


def _survey(door: Door, world: Any, found: dict[str, str], ends: float) -> None:
    @settings(
        max_examples=max(door.examples, 1000),
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @given(door.inputs)
    def _each(value: Any) -> None:
        if time.monotonic() > ends:
            raise SkipTest  # which ends the round at once
        try:
            door.check(world, value)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
            place = where(error)
            if place not in found:
                found[place] = f"{place}\n{value!r}\n{''.join(traceback.format_exception(error))}"
                FOUND.mkdir(exist_ok=True)
                kept = FOUND / f"{door.name}-{len(found)}.txt"
                kept.write_text(found[place], encoding="utf-8", errors="backslashreplace")
                print(ascii(f"{place} {value!r}")[:400], flush=True)

    _each()


def where(error: BaseException) -> str:
    """Name a failure by its type and the lines of ours that it left last."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [each for each in traceback.extract_tb(error.__traceback__) if "backlog_worker/" in each.filename]
    last = [f"{each.filename.rpartition('backlog_worker/')[2]}:{each.lineno}" for each in lines[-2:]]
    return f"{type(error).__name__} in {' > '.join(last) or str(error)[:100]}"
