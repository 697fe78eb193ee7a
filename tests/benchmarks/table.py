"""`python -m tests.benchmarks.table [--share I/N]`: every graph of four jobs against the table, in all its ways.

Hours on one core, so it is no test: those take every graph of up to three jobs and a sample of these. A share is every
N-th graph; it prints how many graphs and ways it went through, or the first that differs.
"""

import argparse
import itertools
import time

from tests.domain import table
from tests.domain.test_table import compared


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.table", description=__doc__)
    parser.add_argument("--share", default="1/1", help="such as 3/1000: the third of a thousand equal parts")
    parser.add_argument("--jobs", type=int, default=4)
    given = parser.parse_args()
    share, shares = (int(each) for each in given.share.split("/"))
    began = time.monotonic()
    graphs = ways = 0
    for graph in itertools.islice(table.graphs(given.jobs), share - 1, None, shares):
        ways += compared(graph, at_once=True) + compared(graph, at_once=False)
        graphs += 1
    print(f"{graphs} graphs, {ways} ways, {time.monotonic() - began:.0f} s: as the table says")


if __name__ == "__main__":
    main()
