"""P14: what the analysis of an issue costs: the median over the corpus, and ten times the text."""

import statistics
import time
from argparse import Namespace

from backlog_worker.domain.specification import analysed
from tests.benchmarks.servers import Servers
from tests.domain.extraction import corpus
from tests.domain.test_d_specification import HOSTILE


def measured(_servers: Servers, given: Namespace) -> dict[str, object]:
    """Milliseconds an issue, and the worst ratio of 1,000,000 signs of hostile text to 100,000."""
    costs = [min(_seconds(issue["title"], issue["body"]) for _ in range(given.rounds)) * 1000 for issue in corpus()]
    ratios = {piece: _ratio(piece) for piece in HOSTILE}
    worst = max(ratios, key=lambda piece: ratios[piece])
    return {
        "issues": len(costs),
        "ms_median": statistics.median(costs),
        "ms_max": max(costs),
        "ratio_worst": ratios[worst],
        "worst": repr(worst),
    }


def _ratio(piece: str) -> float:
    small, large = (
        min(_seconds("Title", piece * (length // len(piece))) for _ in range(2)) for length in (100_000, 1_000_000)
    )
    return large / max(small, 0.002)


def _seconds(title: str, body: str) -> float:
    began = time.perf_counter()
    analysed(title, body)
    return time.perf_counter() - began
