"""Seeds without a fault in the protocol hold; a protocol with one part missing is found."""

from collections import Counter

import pytest

from tests.faults.mutants import MUTANTS, mutated
from tests.faults.simulation import ViolationError, World

SEEDS = 60
FOUND_WITHIN = 200


def test_every_invariant_holds_in_every_seed_and_every_fault_struck():
    struck: Counter[str] = Counter()
    for seed in range(1, SEEDS + 1):
        struck += World(seed).run().struck
    for fault in (
        "killed",
        "frozen",
        "outage",
        "bell_lost",
        "bell_doubled",
        "sender_killed",
        "policy_changed",
        "two_people",
    ):
        assert struck[fault] > 0, f"{fault} never struck, so nothing was proved of it"


@pytest.mark.parametrize("mutant", sorted(MUTANTS))
def test_a_mutant_is_found(mutant):
    with mutated(mutant):
        for seed in range(1, FOUND_WITHIN + 1):
            try:
                World(seed).run()
            except ViolationError:
                return
    pytest.fail(f"{mutant} survived {FOUND_WITHIN} seeds: a test is missing")
