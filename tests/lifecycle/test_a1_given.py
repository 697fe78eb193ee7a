"""A1: an output that a person gives is judged where it is given, as what a job hands over is."""

import pytest

from backlog_worker.domain.errors import InvalidInputError
from tests.executors.test_a1_outputs import BAD
from tests.lifecycle.test_given import by_answer, by_fork


@pytest.mark.parametrize("name", ["not a number", "half a character", "3,000 lists", "a huge number", "bytes"])
@pytest.mark.parametrize("way", [by_fork, by_answer])
def test_a1_whoever_gives_an_output_that_cannot_be_kept_is_told_at_once(way, name):
    with pytest.raises(InvalidInputError):
        way(BAD[name][0]())
