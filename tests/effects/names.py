"""Every name that a user can set: keys of files, columns of entries, options of commands, variables; from the code."""

import types
import typing
from collections.abc import Iterator

import typer
from pydantic import BaseModel

from backlog_worker.cli import app
from backlog_worker.domain.agent import AgentFile
from backlog_worker.domain.draft import Draft
from backlog_worker.domain.language import PipelineFile
from backlog_worker.domain.policy import PolicyFile
from backlog_worker.settings import Settings
from backlog_worker.store.sql.tables import entries

COMPLETION = ("help", "install_completion", "show_completion")  # of the library


def keys(model: type[BaseModel], seen: tuple[type[BaseModel], ...] = ()) -> Iterator[str]:
    """Return the path of every key of a file, such as ``jobs.retry.maxAttempts``."""
    for name, field in model.model_fields.items():
        key = field.alias or name
        yield key
        for inner in models(field.annotation):
            if inner not in seen:
                yield from (f"{key}.{rest}" for rest in keys(inner, (*seen, inner)))


def models(annotation: object) -> Iterator[type[BaseModel]]:
    """Return the models inside an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif isinstance(annotation, types.GenericAlias) or typing.get_args(annotation):
        for each in typing.get_args(annotation):
            yield from models(each)


def options(command: typing.Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Return every option of every command, such as ``entry add --label``."""
    for each in command.params:
        if each.param_type_name == "option" and each.name not in COMPLETION:
            yield " ".join([*path, max(each.opts, key=len)])
    for name, inner in getattr(command, "commands", {}).items():
        yield from options(inner, (*path, name))


def every() -> dict[str, list[str]]:
    """Return all names by their kind."""
    return {
        "policy": sorted(set(keys(PolicyFile))),
        "pipeline": sorted(set(keys(PipelineFile))),
        "agent": sorted(set(keys(AgentFile))),
        "draft": sorted(set(keys(Draft))),
        "column": sorted(column.name for column in entries.columns),
        "option": sorted(set(options(typer.main.get_command(app)))),
        "variable": sorted(f"BACKLOG_{name.upper()}" for name in Settings.model_fields),
    }
