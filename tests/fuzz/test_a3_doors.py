"""Every door lets out only our own errors: the short form of its fuzzer, and what such fuzzers found."""

import warnings

import pytest

from tests.fuzz import doors
from tests.fuzz.door import put


@pytest.mark.parametrize("door", doors(), ids=lambda each: each.name)
def test_a3_nothing_but_our_own_errors_comes_out_of_a_door(door, tmp_path):
    with door.world(tmp_path) as world, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of platformdirs, about a machine without XDG_RUNTIME_DIR
        put(door, world, door.examples)
