"""One duty of the sweep over many entries: all at once; if that fails, one by one, setting failing entries aside.

An unreadable row or a fault in one entry never delays the others. Entries set aside are retried at growing intervals;
this is local to the process and changes nothing about the entry.
"""

import time
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import TypeVar
from weakref import WeakKeyDictionary

from backlog_worker.domain.bell import Bell
from backlog_worker.lifecycle.loops import attempt
from backlog_worker.store import Store, Unit

SWEPT = 50
ASIDE_SECONDS, ASIDE_SECONDS_MAX = 30.0, 3600.0
Key = TypeVar("Key", bound=Hashable)
# For each store of this process, by duty and key: until when the key is set aside, and for how long; monotonic.
_ASIDE: WeakKeyDictionary[Store, dict[tuple[str, Hashable], tuple[float, float]]] = WeakKeyDictionary()


def duty(
    store: Store,
    name: str,
    listed: Callable[[Unit, int], Sequence[Key]],
    act: Callable[[Sequence[Key]], list[Bell]],
) -> list[Bell]:
    """Run *act* on the keys from *listed* in its own transaction and return its bells; never raises.

    *listed* is asked for as many more keys as are set aside, so that these never crowd out the others.
    """
    known = _ASIDE.setdefault(store, {})
    aside = {key for (of, key), (until, _) in known.items() if of == name and time.monotonic() < until}
    due = attempt(name, lambda: _due(store, listed, SWEPT + len(aside)))
    keys = [key for key in due.value or () if key not in aside][:SWEPT]
    if not keys:
        return []
    whole = attempt(name, lambda: act(keys))
    if whole.error is None or whole.elsewhere:
        return whole.value or []
    bells: list[Bell] = []
    for key in keys:
        one = attempt(name, partial(act, [key]), key=str(key))
        bells += one.value or []
        if one.error is None:
            known.pop((name, key), None)
        elif not one.elsewhere:
            length = min(ASIDE_SECONDS_MAX, 2 * known.get((name, key), (0.0, ASIDE_SECONDS / 2))[1])
            known[name, key] = (time.monotonic() + length, length)
    return bells


def _due(store: Store, listed: Callable[[Unit, int], Sequence[Key]], most: int) -> list[Key]:
    with store.read() as unit:
        return list(listed(unit, most))
