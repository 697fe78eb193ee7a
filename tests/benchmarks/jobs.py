"""No-ops, and a job that says when it began."""

import os
import time


def noop(_context):
    return None


def stamp(_context):
    with open(os.path.join(os.environ["BACKLOG_DIR"], "started"), "a", encoding="utf-8") as file:
        file.write(f"{time.time()}\n")
