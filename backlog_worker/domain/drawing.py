"""Drawings of a pipeline as text, Mermaid, Graphviz or SVG, with the status of each job if there is a run."""

from collections.abc import Callable, Mapping
from html import escape

from backlog_worker.domain.pipeline import Job, Pipeline

COLORS: Mapping[str, str] = {
    "completed": "#2e7d32",
    "failed": "#c62828",
    "running": "#1565c0",
    "waiting": "#ef6c00",
    "skipped": "#9e9e9e",
    "canceled": "#9e9e9e",
    "pending": "#607d8b",
}
SIGNS: Mapping[str, str] = {
    "completed": "✓",
    "failed": "✗",
    "running": "▶",
    "waiting": "?",
    "skipped": "↷",
    "canceled": "⊘",
    "pending": "·",
}
WIDTH, HEIGHT, GAP_X, GAP_Y = 190, 46, 60, 22
Statuses = Mapping[str, str]
NO_STATUSES: Statuses = {}


def layers(pipeline: Pipeline) -> list[list[Job]]:
    """Return the jobs in columns: each job is in a later column than everything that it waits for."""
    depth: dict[str, int] = {}
    for job_id in pipeline.order:
        depth[job_id] = 1 + max((depth[each] for each in pipeline.job(job_id).after), default=-1)
    found: list[list[Job]] = [[] for _ in range(1 + max(depth.values()))]
    for job in pipeline.jobs:
        found[depth[job.id]].append(job)
    return found


def text(pipeline: Pipeline, statuses: Statuses = NO_STATUSES) -> str:
    """Draw one line per job, column by column, with its dependencies and its condition."""
    rows = []
    for number, column in enumerate(layers(pipeline), start=1):
        for job in column:
            sign = SIGNS.get(statuses.get(job.id, ""), "•" if not statuses else "·")
            behind = f"  <- {', '.join(job.after)}" if job.after else ""
            when = f"  when {job.when.source}" if job.when else ""
            marks = "".join(f"  [{mark}]" for mark in _marks(job))
            rows.append(f"{number:>3} {sign} {job.id}{behind}{when}{marks}")
    return "\n".join(rows)


def mermaid(pipeline: Pipeline, statuses: Statuses = NO_STATUSES) -> str:
    """Draw for Mermaid; names are quoted, so the text of a pipeline never becomes syntax."""
    number = {job.id: f"j{at}" for at, job in enumerate(pipeline.jobs)}
    rows = ["flowchart LR"]
    for job in pipeline.jobs:
        label = escape(job.name).replace('"', "&quot;")
        shape = ('{{"', '"}}') if job.approval or job.kind == "ask" else ('["', '"]')
        rows.append(f"  {number[job.id]}{shape[0]}{label}{shape[1]}")
    for job in pipeline.jobs:
        arrow = "-.->" if job.when else "-->"
        rows += [f"  {number[each]} {arrow} {number[job.id]}" for each in job.after]
    for job_id, status in statuses.items():
        if job_id in number and status in COLORS:
            rows.append(f"  style {number[job_id]} stroke:{COLORS[status]},stroke-width:3px")
    return "\n".join(rows)


def dot(pipeline: Pipeline, statuses: Statuses = NO_STATUSES) -> str:
    """Draw for Graphviz."""
    rows = ["digraph pipeline {", "  rankdir=LR; node [shape=box, style=rounded];"]
    for job in pipeline.jobs:
        color = COLORS.get(statuses.get(job.id, ""), "black")
        rows.append(f'  "{_quoted(job.id)}" [label="{_quoted(job.name)}", color="{color}"];')
    for job in pipeline.jobs:
        style = " [style=dashed]" if job.when else ""
        rows += [f'  "{_quoted(each)}" -> "{_quoted(job.id)}"{style};' for each in job.after]
    return "\n".join([*rows, "}"])


def svg(pipeline: Pipeline, statuses: Statuses = NO_STATUSES) -> str:
    """Draw as a self-contained SVG: no script, no link, every text escaped."""
    columns = layers(pipeline)
    place = {
        job.id: (20 + x * (WIDTH + GAP_X), 20 + y * (HEIGHT + GAP_Y))
        for x, column in enumerate(columns)
        for y, job in enumerate(column)
    }
    wide = 40 + len(columns) * (WIDTH + GAP_X) - GAP_X
    high = 40 + max(len(column) for column in columns) * (HEIGHT + GAP_Y) - GAP_Y
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" width="{wide}" height="{high}"'
    rows = [f'{head} role="img" aria-label="{escape(pipeline.name)}" font-family="sans-serif" font-size="13">']
    for job in pipeline.jobs:
        dash = ' stroke-dasharray="5 4"' if job.when else ""
        for each in job.after:
            (x1, y1), (x2, y2) = place[each], place[job.id]
            start, end = (x1 + WIDTH, y1 + HEIGHT // 2), (x2, y2 + HEIGHT // 2)
            middle = (start[0] + end[0]) // 2
            curve = f"M{start[0]},{start[1]} C{middle},{start[1]} {middle},{end[1]} {end[0]},{end[1]}"
            rows.append(f'<path d="{curve}" fill="none" stroke="#90a4ae"{dash}/>')
    for job in pipeline.jobs:
        x, y = place[job.id]
        status = statuses.get(job.id, "")
        color = COLORS.get(status, "#37474f")
        says = f"{job.name}{f' ({status})' if status else ''}"
        below = escape(_short(status or " ".join(_marks(job)), 30))
        box = f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="8" fill="#ffffff"'
        rows += [
            f'<g><title>{escape(says)}</title>{box} stroke="{color}" stroke-width="2"/>',
            f'<text x="{x + 12}" y="{y + 20}" fill="#263238">{escape(_short(job.name, 24))}</text>',
            f'<text x="{x + 12}" y="{y + 37}" fill="{color}" font-size="11">{below}</text></g>',
        ]
    return "\n".join([*rows, "</svg>"])


DRAWINGS: Mapping[str, Callable[[Pipeline, Statuses], str]] = {"text": text, "mermaid": mermaid, "dot": dot, "svg": svg}


def _marks(job: Job) -> list[str]:
    marks = [job.agent.name if job.agent else {"ask": "a person"}.get(job.kind, job.kind)]
    marks += ["approval"] * bool(job.approval) + [gate.id for gate in job.gates]
    return marks + ["continueOnError"] * job.continue_on_error


def _quoted(words: str) -> str:
    return words.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")


def _short(words: str, most: int) -> str:
    return words if len(words) <= most else words[: most - 1] + "…"
