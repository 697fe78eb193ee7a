"""Where this was installed from, and so the command that installs another part of it from there."""

import json
import shlex
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from backlog_worker.domain.masking import masked

NAME = "backlog-worker"


def command(extra: str = "") -> str:
    """Return the command that installs *extra* from where this was installed."""
    try:
        found = distribution(NAME)
    except PackageNotFoundError:
        return _pip("-e", f"{Path(__file__).parents[1]}{_extras(extra)}")
    return line(json.loads(found.read_text("direct_url.json") or "{}"), extra, version=found.version)


def line(direct: Mapping[str, Any], extra: str = "", *, version: str) -> str:
    """Return the command for what pip recorded of an installation; without a record it came from an index."""
    url = str(direct.get("url", ""))
    if not url:
        return _pip(f"{NAME}{_extras(extra)}=={version}")
    if "dir_info" in direct:
        path = f"{url2pathname(urlsplit(url).path)}{_extras(extra)}"
        return _pip("-e", path) if direct["dir_info"].get("editable") else _pip(path)
    if "vcs_info" in direct:
        vcs = direct["vcs_info"]
        url = f"{vcs['vcs']}+{url}@{vcs['commit_id']}"
    below = f"#subdirectory={direct['subdirectory']}" if direct.get("subdirectory") else ""
    return _pip(f"{NAME}{_extras(extra)} @ {masked(url)}{below}")


def _extras(extra: str) -> str:
    return f"[{extra}]" if extra else ""


def _pip(*arguments: str) -> str:
    return shlex.join([sys.executable, "-m", "pip", "install", *arguments])
