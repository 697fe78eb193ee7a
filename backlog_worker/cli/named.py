"""Files named by a person: read and written whole, with one error sentence for each kind of failure."""

from pathlib import Path
from typing import Any

from backlog_worker import modes
from backlog_worker.domain import wire
from backlog_worker.domain.errors import InvalidInputError, NotFoundError, UsageError

BYTES_MAX = 64 * 1024 * 1024


def read_text(path: Path) -> str:
    """Read a regular file as text, without blocking; raises NotFoundError or UsageError that names it."""
    from backlog_worker.integrations import project

    try:
        return project.text_of(path, BYTES_MAX).removeprefix("\ufeff")
    except FileNotFoundError:
        message = f"there is no file {path}"
        raise NotFoundError(message) from None
    except UnicodeDecodeError as error:
        message = f"{path}: {project.fault(error)}"
        raise UsageError(message) from None
    except (OSError, ValueError) as error:  # a folder, no right to read, a NUL in the name
        message = f"{path}: {project.fault(error) if isinstance(error, OSError) else error}"
        raise UsageError(message) from None


def read_json(path: Path) -> Any:  # noqa: ANN401 - free JSON
    """Read a JSON file; raises NotFoundError or UsageError that names it."""
    try:
        return wire.parsed(read_text(path), str(path))
    except InvalidInputError as error:
        raise UsageError(str(error)) from None


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON file with an object; raises NotFoundError or UsageError that names it."""
    value = read_json(path)
    if not isinstance(value, dict):
        message = f"{path} is not a JSON object"
        raise UsageError(message)
    return value


def write_text(path: Path, text: str) -> None:
    """Write a file whole; raises UsageError that names it."""
    try:
        with modes.as_people():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except (OSError, ValueError) as error:
        message = f"{path} cannot be written: {_reason(error)}"
        raise UsageError(message) from None


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
