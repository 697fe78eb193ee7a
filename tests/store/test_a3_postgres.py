"""The search door against a real PostgreSQL, and names of entries that are hostile."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backlog_worker.lifecycle import lookup
from backlog_worker.testing import bench
from tests.fuzz import hostile
from tests.fuzz.backlog import World, check_search, queries
from tests.fuzz.door import ours

SOME = settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture
def world(postgres_url, tmp_path):
    table = bench(url=postgres_url)
    table.file(*({"title": f"one {number}", "labels": ["ai-ok", "x"]} for number in range(3)))
    yield World(table, tmp_path)
    table.kit.store.close()


def test_a3_nothing_but_our_own_errors_comes_out_of_search_on_postgresql(world):
    @SOME
    @given(queries())
    def _each(text):
        check_search(world, text)

    _each()


def test_a3_nothing_but_our_own_errors_comes_out_of_a_name_on_postgresql(world):
    hosts = ["bl_{}", "#{}", "a/b#{}", "https://github.com/a/b/issues/{}", "{}"]

    @SOME
    @given(st.builds(lambda form, text: form.format(text), st.sampled_from(hosts), hostile.texts()), st.booleans())
    def _each(text, words):
        ours(lookup.id_of, world.table.kit, text, words=words)

    _each()
