"""One fuzzer per door: hostile input goes in, and nothing comes out but an answer or one of our own errors.

The short form is a part of the tests. The long form: `python -m tests.fuzz DOOR --minutes 10`.
"""

from tests.fuzz.door import Door


def doors() -> list[Door]:
    """Return every door, imported when it is asked for."""
    from tests.fuzz import backlog, cli, http, kept, values

    return [*values.DOORS, *backlog.DOORS, *kept.DOORS, http.DOOR, cli.DOOR]
