"""Command lines of well-known coding agents: how each receives its task, and where its answer and usage are found.

The flags follow the agents' documentation of late 2026; a `command:` in the agent's file takes precedence.
"""

import contextlib
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from backlog_worker.domain import throttle
from backlog_worker.domain.agent import Agent
from backlog_worker.domain.masking import cut, masked
from backlog_worker.domain.outcome import Done, FailureKind, Faulted, Refused, Result, Throttled
from backlog_worker.domain.usage import claimed, of_provider
from backlog_worker.executors import Work, answers, exits
from backlog_worker.executors.process import Ended
from backlog_worker.executors.workspace import Workspace

PROMPT = "{prompt}"
_LIMITED = re.compile(
    r"(?i)rate.?limit|usage limit|quota (?:exceeded|reached)|too many requests|\b429\b|overloaded_error"
)
_MOMENT = r"(?P<at>\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d)?(?:Z|[+-]\d\d:?\d\d)?)"
_LENGTH = r"(?P<number>-?\d+(?:\.\d+)?) ?(?P<unit>ms|milliseconds?|s|secs?|seconds?|m|mins?|minutes?|h|hours?|d|days?)?"
_RESET = re.compile(rf"(?i)(?:resets? (?:at|in)|retry.?after)[^\d-]{{0,12}}(?:{_MOMENT}|{_LENGTH})(?![\w:-])")
_FENCES = ("```", "~~~")
_LANGUAGES = ("jsonc", "json5", "json")
_THOUGHT = "</think>"  # ends a model's thoughts, which precede its answer
_NEVER_BEGAN = frozenset({exits.NOT_RUN, exits.NOT_FOUND})
WAIT = timedelta(minutes=5)  # used if a provider does not say how long to wait
_BEGINS = frozenset('{["-0123456789tfnNI')
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
EPOCH_DIGITS = 10


@dataclass(frozen=True, slots=True)
class Preset:
    """One command line: `{prompt}` in an argument is replaced by the prompt; without one, the prompt goes to stdin."""

    command: tuple[str, ...]
    model_flag: str = ""

    def arguments(self, work: Work, workspace: Workspace) -> list[str]:
        """Return the arguments; the prompt is a single argument and never part of a shell's text."""
        model = work.agent.model if work.agent else "default"
        flags = [self.model_flag, model] if self.model_flag and model != "default" else []
        first, *rest = self.command
        given = [work.prompt if each == PROMPT else each for each in rest]
        return [first, *flags, *(each.replace("{workspace}", str(workspace.place)) for each in given)]

    def stdin(self, work: Work) -> str | None:
        """Return the standard input of the agent."""
        return None if PROMPT in self.command else work.prompt

    def read(self, ended: Ended, work: Work, otherwise: Callable[[], Result]) -> Result:
        """Return the result of the agent's run; its output file takes precedence over its printed output."""
        told = _last_json(ended.tail)
        if ended.status not in _NEVER_BEGAN:
            _spend(told, work)
        if ended.timed_out or ended.killed:
            return otherwise()
        failed = ended.status != 0 or bool(told.get("is_error"))
        if failed and limited(ended.tail):
            return throttled(ended.tail)
        result = otherwise()
        if told.get("is_error") and isinstance(result, Done):
            words = masked(answers.text(told.get("result") or told.get("error") or "the agent reported a failure"))
            return Faulted(kind=FailureKind.EXECUTION, reason=cut(words, 400))
        if isinstance(result, Done) and result.output is None:
            return _final_result(told, ended, result)
        return result


PRESETS: Mapping[str, Preset] = {
    "claude": Preset(("claude", "-p", "--output-format", "json", "--permission-mode", "acceptEdits"), "--model"),
    "codex": Preset(("codex", "exec", "--json", "--skip-git-repo-check", "-"), "--model"),
    "gemini": Preset(("gemini", "--output-format", "json", "--prompt", PROMPT), "--model"),
    "opencode": Preset(("opencode", "run", "--format", "json", PROMPT), "--model"),
    "aider": Preset(("aider", "--yes-always", "--no-auto-commits", "--message", PROMPT), "--model"),
    "cursor": Preset(("cursor-agent", "-p", "--output-format", "json", PROMPT), "--model"),
    "copilot": Preset(("copilot", "-p", PROMPT, "--allow-all-tools"), "--model"),
    "goose": Preset(("goose", "run", "--no-session", "-t", PROMPT)),
}


def found(agent: Agent | None) -> Preset:
    """Return the command line of an agent: its own, its preset's, or the first well-known one on the path."""
    if agent is not None and agent.command:
        return Preset(agent.command)
    if agent is not None and agent.preset:
        if agent.preset not in PRESETS:
            message = f"there is no preset {agent.preset!r}; known: {', '.join(PRESETS)}"
            raise FileNotFoundError(message)
        return PRESETS[agent.preset]
    name = here()
    if not name:
        message = f"no agent is on the path; known: {', '.join(each.command[0] for each in PRESETS.values())}"
        raise FileNotFoundError(message)
    return PRESETS[name]


def here() -> str:
    """Return the first well-known agent whose program is on the path, or an empty text."""
    return next((name for name, each in PRESETS.items() if shutil.which(each.command[0])), "")


def limited(text: str) -> bool:
    """Return whether a text reports a limit of the provider."""
    return _LIMITED.search(text) is not None


def throttled(text: str) -> Throttled:
    """Return when a provider's limit ends, read from a time, seconds since 1970, or a duration."""
    said = masked(text).strip().splitlines()
    reason = cut(said[-1] if said else "rate limit", 300)
    when = _RESET.search(text)
    if when is None:
        return Throttled(reason=reason, wait=WAIT)
    number, unit = when["number"] or "", (when["unit"] or "").lower()
    if when["at"] or (len(number) == EPOCH_DIGITS and number.isdecimal() and not unit):
        at = datetime.fromtimestamp(int(number), UTC) if number else throttle.date(when["at"])
        return Throttled(reason=reason, until=at, wait=WAIT)
    wait = throttle.length(number, unit=_unit(unit))
    return Throttled(reason=reason, wait=WAIT if wait is None else wait)


def _unit(word: str) -> float:
    """Return the seconds of a unit of time."""
    if word.startswith(("ms", "milli")):
        return _UNITS["ms"]
    return _UNITS[word[:1] or "s"]


def json_in(text: str) -> Any:  # noqa: ANN401 - free JSON of a model
    """Return the JSON of a model's answer: the whole text, the text after its thoughts, or its last fenced block.

    Raises ValueError if that is not JSON.
    """
    said = text.rpartition(_THOUGHT)[2]
    for block in [text.strip(), said.strip(), *reversed(_fenced(said))]:
        if block[:1] in _BEGINS:
            with contextlib.suppress(ValueError):
                return answers.parsed(block)
    message = "it contains no JSON"
    raise ValueError(message)


def _fenced(text: str) -> list[str]:
    """Return the texts between lines of three backticks, and the text after the last unclosed one."""
    blocks: list[list[str]] = [[]]
    for line in text.splitlines():
        bare = line.rstrip()
        named = next((each for each in _LANGUAGES if bare.lower().endswith(each)), "")
        before = bare[: len(bare) - len(named)].rstrip()
        if before.endswith(_FENCES):
            blocks[-1].append(before.rstrip("`~"))
            blocks.append([])
        else:
            blocks[-1].append(line)
    return ["\n".join(block).strip() for block in blocks[1:]]


def _final_result(told: Mapping[str, Any], ended: Ended, done: Done) -> Result:
    """Use the agent's final text as its output: as JSON if it parses, else as text."""
    text = answers.text(told.get("result") or told.get("response")) or ended.tail
    try:
        value = json_in(text)
    except ValueError:
        value = {"text": text.strip()[-64_000:]}
    if isinstance(value, dict) and value.get("refused"):
        return Refused(kind=FailureKind.VALIDATION, reason=cut(answers.text(value["refused"]), 400))
    return answers.result(value, done.artifacts, usual="the agent gave up")


def _last_json(text: str) -> dict[str, Any]:
    """Return the last JSON object on a line of its own, or the whole text."""
    for line in [*reversed(text.strip().splitlines()), text]:
        if line.strip().startswith("{"):
            try:
                value = answers.parsed(line)
            except ValueError:
                continue
            return value if isinstance(value, dict) else {}
    return {}


def _spend(told: Mapping[str, Any], work: Work) -> None:
    """Count the usage that an agent reports; one that reports none used a model for an unknown sum."""
    cost = told.get("total_cost_usd", told.get("cost_usd"))
    model = told.get("model") or (work.agent.model if work.agent else "")
    named = {"model": "" if model == "default" else model}
    work.report.spend(claimed({**named, **of_provider(told.get("usage")), "usd": cost}))
