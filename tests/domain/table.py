"""The table of `docs/pipelines.md`, a second time and naively: what the planner says is compared with it.

It shares nothing with the planner. A graph is a list of jobs numbered in the order in which they may stand; a job is
(dependencies, condition, tolerant). Where a job stands is one word: pending, completed, failed, nothing (its own `when`
was false), unmet, canceled. The whole table is asked again and again, for every job, until nothing changes.
"""

import itertools
from dataclasses import dataclass

ENDED = {"completed", "failed", "nothing", "unmet", "canceled"}
ALONE = ("", "true", "false", "always()", "failure()", "success()")


@dataclass(frozen=True)
class Node:
    """A job of a graph; *about* is the job that its condition reads by name."""

    needs: tuple[int, ...]
    condition: str = ""
    about: int = -1
    tolerant: bool = False

    @property
    def waits(self) -> set[int]:
        return {*self.needs, self.about} - {-1}


def conditions(number):
    """Return every condition of a job with *number* jobs before it."""
    named = [(word, each) for each in range(number) for word in ("failed", "completed")]
    return [(word, -1) for word in ALONE] + named


def graphs(number):
    """Return every graph of so many jobs with every combination of conditions; no job is tolerant."""
    choices = []
    for at in range(number):
        subsets = [each for size in range(at + 1) for each in itertools.combinations(range(at), size)]
        choices.append([Node(needs, word, about) for needs in subsets for word, about in conditions(at)])
    return itertools.product(*choices)


def before(graph, at):
    """Return all that a job waits for, directly or not."""
    found = set()
    for each in graph[at].waits:
        found |= {each} | before(graph, each)
    return found


def reads(graph, at, other):
    """Whether a job is a handler of another one's failure."""
    node = graph[at]
    return node.about == other or (node.condition in {"always()", "failure()"} and other in before(graph, at))


def well(graph, stands, at):
    return stands[at] in {"completed", "nothing"}


def fatal(graph, stands):
    return [at for at in range(len(graph)) if stands[at] == "failed" and not graph[at].tolerant]


def overcome(graph, stands, failed, *, hoping=False):
    """Whether a later job overcame a failure; or, hoping, may still do so."""
    for at in range(len(graph)):
        needs = graph[at].needs
        if failed not in needs or reads(graph, at, failed):
            continue
        done = {"completed"} if not hoping else {"completed", "pending"}
        helped = any(other != failed and reads(graph, other, failed) and stands[other] in done for other in needs)
        went_on = stands[at] == "completed" or (stands[at] == "failed" and graph[at].tolerant)
        went_on = went_on or (hoping and stands[at] == "pending")
        went_on = went_on or (stands[at] == "failed" and overcome(graph, stands, at, hoping=hoping))
        if helped and went_on:
            return True
    return False


def standing(graph, stands):
    return [at for at in fatal(graph, stands) if not overcome(graph, stands, at)]


def final(graph, stands):
    return [at for at in standing(graph, stands) if not overcome(graph, stands, at, hoping=True)]


def in_the_wake(graph, stands, at):
    """Whether a job stands behind a handler of a standing failure that completed, or that has not ended yet."""
    for other in graph[at].waits:
        handler = any(reads(graph, other, failed) for failed in standing(graph, stands))
        alive = stands[other] in {"completed", "pending"} or (stands[other] == "failed" and graph[other].tolerant)
        if alive and (handler or in_the_wake(graph, stands, other)):
            return True
        if stands[other] == "nothing" and in_the_wake(graph, stands, other):
            return True
    return False


def ruling(graph, stands, at):
    """Say what the table says of a job that has not begun: ready, pending, or how it ends."""
    node = graph[at]
    spared = node.condition in {"always()", "failure()"} or in_the_wake(graph, stands, at)
    spared = spared or any(reads(graph, at, failed) for failed in standing(graph, stands))
    if final(graph, stands) and not spared:
        return "canceled"
    if any(stands[each] not in ENDED for each in node.waits):
        return "pending"
    for each in node.needs:
        if node.condition in {"always()", "failure()"} or node.about == each or well(graph, stands, each):
            continue
        if stands[each] != "failed":
            return "unmet"
        bridge = any(o != each and reads(graph, o, each) and stands[o] == "completed" for o in node.needs)
        if not graph[each].tolerant and not bridge:
            return "unmet"
    return "ready" if true(graph, stands, at) else "nothing"


def true(graph, stands, at):
    node = graph[at]
    past = [each for each in before(graph, at) if not (stands[each] == "failed" and each not in left(graph, stands))]
    match node.condition:
        case "failed" | "completed":
            return stands[node.about] == node.condition
        case "failure()":
            return any(stands[each] == "failed" for each in past)
        case "success()":
            return all(well(graph, stands, each) for each in past)
        case word:
            return word != "false"


def left(graph, stands):
    """Return the failures that count for `failure()`: those that stand, and those that are tolerated."""
    return set(standing(graph, stands)) | {at for at in range(len(graph)) if graph[at].tolerant}


def decided(graph, stands):
    """Ask the table until nothing changes; returns where every job stands, and which may begin."""
    stands = list(stands)
    while True:
        said = [ruling(graph, stands, at) if stands[at] == "pending" else stands[at] for at in range(len(graph))]
        # One at a time, the first that ends: what it means for the others is asked anew.
        ends = next((at for at in range(len(graph)) if stands[at] == "pending" and said[at] in ENDED), None)
        if ends is None:
            return stands, [at for at in range(len(graph)) if said[at] == "ready"]
        stands[ends] = said[ends]
