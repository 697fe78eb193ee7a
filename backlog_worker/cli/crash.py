"""The outer edge of the command line: a fault of ours is named, its details are kept, and no traceback is shown."""

import os
import tempfile
import traceback
from datetime import UTC, datetime
from pathlib import Path

from backlog_worker.domain.errors import BacklogError
from backlog_worker.domain.masking import masked

FAULT = "this is a fault of backlog-worker"


def unexpected(error: Exception) -> BacklogError:
    """Return the message for an unexpected error, with the place of its details."""
    details = masked("".join(traceback.format_exception(error)))
    message = f"{type(error).__name__}: {FAULT}, and the command may not be finished"
    kept = _kept(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%SZ}\n{details}\n")
    where = f"the details are in {kept}" if kept else "there is no room for the details"
    return BacklogError(message, hint=f"{where}; read that file and report it, with the output of `doctor`")


def _kept(text: str) -> Path | None:
    """Append the details to the log of the project, or put them into a file of their own where there is none."""
    state = Path(os.environ.get("BACKLOG_DIR") or ".backlog-worker").absolute() / "state"
    try:
        if not state.is_dir():
            number, name = tempfile.mkstemp(prefix="backlog-worker-", suffix=".log")
        else:
            name = str(state / "crash.log")
            number = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
        with os.fdopen(number, "a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError:
        return None
    return Path(name)
