"""The order in which dependent drafts are filed: dependencies first; cycles are refused."""

from collections.abc import Mapping, Sequence


def ordered(needs: Mapping[str, Sequence[str]]) -> tuple[list[str], dict[str, str]]:
    """Return the keys in dependency order, and the refused keys with the cycle that each is part of.

    Dependencies that are not keys of *needs* are resolved elsewhere and do not affect the order.
    """
    done: list[str] = []
    circles: dict[str, str] = {}
    state: dict[str, bool] = {}  # False: on the current path; True: placed
    for start in needs:
        path = [(start, iter(needs[start]))] if start not in state else []
        if path:
            state[start] = False
        while path:
            key, rest = path[-1]
            following = next((each for each in rest if each in needs and not state.get(each, False)), None)
            if following is None:
                state[key] = True
                done.append(key)
                path.pop()
            elif following in state:
                _circle([each for each, _ in path], following, circles)
            else:
                state[following] = False
                path.append((following, iter(needs[following])))
    return [key for key in done if key not in circles], circles


def _circle(path: Sequence[str], back_to: str, circles: dict[str, str]) -> None:
    ring = path[path.index(back_to) :]
    words = " -> ".join([*ring[:8], *(["..."] if len(ring) > 8 else []), back_to])  # noqa: PLR2004 - one line
    for each in ring:
        circles.setdefault(each, f"depends on itself in a cycle: {words}")
