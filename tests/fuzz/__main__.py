"""The long form: `python -m tests.fuzz DOOR --minutes 10`; without a name every door, one after the other."""

import argparse
import sys
import tempfile
import warnings
from pathlib import Path

from backlog_worker import telemetry
from tests.fuzz import doors
from tests.fuzz.door import survey


def main() -> int:
    """Put inputs through doors; the exit code is 1 where something was found."""
    known = {door.name: door for door in doors()}
    asked = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    asked.add_argument("door", nargs="*", choices=[*known, []], help="which; none: all")
    asked.add_argument("--minutes", type=float, default=10.0, help="how long, each")
    given = asked.parse_args()
    telemetry.configure(level="CRITICAL")
    warnings.simplefilter("error")
    warnings.simplefilter("ignore", DeprecationWarning)
    with tempfile.TemporaryDirectory() as folder:
        found = [survey(known[name], Path(folder) / name, given.minutes) for name in given.door or known]
    return 1 if any(found) else 0


if __name__ == "__main__":
    sys.exit(main())
