"""The command line; each command imports what it needs when it is called, so that `--help` is fast."""

import io
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated

import typer

from backlog_worker import modes
from backlog_worker.cli import (
    admin,
    agents,
    audits,
    definitions,
    edits,
    enacting,
    entries,
    fields,
    governing,
    imports,
    listing,
    local,
    pipelines,
    reviews,
    runs,
    schedules,
)
from backlog_worker.cli.output import INTERRUPTED, OPTIONS, complain, fail, verbatim
from backlog_worker.domain.errors import BacklogError, UnreachableError, UsageError
from backlog_worker.domain.wire import fault_in_text

app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (
    local,
    entries,
    edits,
    imports,
    listing,
    runs,
    reviews,
    pipelines,
    definitions,
    enacting,
    agents,
    governing,
    schedules,
    admin,
    audits,
):
    module.register(app)


def _said_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        verbatim(f"backlog-worker {version('backlog-worker')}")
        raise typer.Exit


@app.callback()
def options(
    folder: Annotated[
        Path | None, typer.Option("--dir", help="The project directory; default: .backlog-worker.")
    ] = None,
    env: Annotated[str, typer.Option("--env", help="The environment, that is, the backlog to use.")] = "",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON. After the verb, it accepts a list of fields.")
    ] = False,
    json_lines: Annotated[bool, typer.Option("--json-lines", help="Print JSON Lines, one object per line.")] = False,
    json_fields: Annotated[str, typer.Option("--json-fields", hidden=True)] = "",
    quiet: Annotated[bool, typer.Option("--quiet", help="Print only data, no messages.")] = False,
    _version: Annotated[
        bool, typer.Option("--version", callback=_said_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    no_color: Annotated[bool, typer.Option("--no-color", help="Print without color.")] = False,
) -> None:
    """Drive AI and agent pipelines from a governed backlog."""
    import os

    OPTIONS.as_json, OPTIONS.lines = as_json or json_lines, json_lines
    OPTIONS.fields = tuple(each for each in json_fields.replace(" ", "").split(",") if each)
    OPTIONS.quiet, OPTIONS.color = quiet or OPTIONS.as_json, not no_color
    if folder is not None:
        os.environ["BACKLOG_DIR"] = str(folder)
    if env:
        os.environ["BACKLOG_ENV"] = env


def main() -> None:
    """Run the command line; an error ends it with one sentence and its exit code."""
    modes.private()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # characters that the terminal cannot show are escaped
    try:
        _check_arguments(sys.argv[1:])
        commands = typer.main.get_command(app)
        fields.mentioned(commands)
        ended = commands(fields.in_front(sys.argv[1:]), standalone_mode=False)
        sys.exit(ended if isinstance(ended, int) else 0)
    except typer.Abort:
        complain("nothing was done")
        sys.exit(1)
    except typer.TyperException as error:
        complain(_shown(error))
        sys.exit(getattr(error, "exit_code", 2))
    except BacklogError as error:
        fail(error)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except OSError as error:
        fail(_of_the_system(error))
    except Exception as error:  # noqa: BLE001 - the outer edge: its details are kept in a file, and nobody reads a traceback
        from backlog_worker.cli import crash

        fail(crash.unexpected(error))


def _shown(error: typer.TyperException) -> str:
    """Return what the library would print itself of a wrong command: its usage and the fault."""
    words = io.StringIO()
    show = getattr(error, "show", None)
    if show is None:
        return f"error: {error}"
    show(file=words)
    return words.getvalue().rstrip("\n")


def _check_arguments(given: Sequence[str]) -> None:
    """Refuse arguments that no database, file or terminal accepts, before any command runs."""
    for number, each in enumerate(given, start=1):
        if fault := fault_in_text(each):
            message = f"argument {number} is {fault}"
            raise UsageError(message, hint="write it in UTF-8, and rename a file whose name is not")


def _of_the_system(error: OSError) -> BacklogError:
    """Return an error that names the file or address of a system error; others were translated before."""
    what = f"{error.filename}: " if error.filename else ""
    return UnreachableError(f"{what}{error.strerror or error}", hint="backlog-worker doctor")
