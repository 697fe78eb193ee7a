"""policy apply, pipeline apply, pipeline retire: put definitions in or out of force in a person's name."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backlog_worker.cli.access import DryRun, Reason, kit
from backlog_worker.cli.definitions import Files, paths, policy
from backlog_worker.cli.output import following, say, shown
from backlog_worker.cli.pipelines import pipeline
from backlog_worker.domain.errors import NotFoundError

if TYPE_CHECKING:
    from backlog_worker.integrations import DefinitionFile

Follow = Annotated[bool, typer.Option("--follow", help="From now on, the fleet uses the files of this directory.")]


def register(_app: typer.Typer) -> None:
    """Add the commands of this module to those of policies and pipelines."""
    policy.command("apply")(apply_policy)
    pipeline.command("apply")(apply_pipelines)
    pipeline.command("retire")(retire)


def apply_policy(files: Files = None, reason: Reason = "", follow: Follow = False, dry_run: DryRun = False) -> None:
    """Put the policy of this directory, or a file, in force; its tests must pass."""
    _apply(_definitions("policy", files), reason, follow=follow, dry_run=dry_run)


def apply_pipelines(
    names: Annotated[
        list[str] | None, typer.Argument(help="Names of pipelines in this directory, or files; default: all of them.")
    ] = None,
    reason: Reason = "",
    follow: Follow = False,
    dry_run: DryRun = False,
) -> None:
    """Put pipelines in force, also those that are retired; a file that is wrong keeps all of them out."""
    named = [Path(each) for each in names or [] if each.endswith((".yml", ".yaml"))]
    wanted = [each for each in names or [] if not each.endswith((".yml", ".yaml"))]
    found = _definitions("pipeline", named) if named else []
    if wanted or not names:
        found += _named(_definitions("pipeline", None), wanted)
    _apply(found, reason, follow=follow, dry_run=dry_run)


def retire(
    name: Annotated[str, typer.Argument(help="The name of a pipeline that is in force.")], reason: Reason = ""
) -> None:
    """Retire a pipeline: its schedules stop, its triggers refuse, its queued entries wait, its active runs continue."""
    from backlog_worker.lifecycle import enact

    with_kit, given = kit()
    waiting = enact.withdraw(with_kit, name, actor=given.who, reason=reason)
    data = {"name": name, "waiting": waiting}
    shown("backlog-worker/retired", data, lambda: say(f"{name} is retired; {waiting} entries wait for it"))
    following(f"backlog-worker pipeline apply {name} --reason TEXT brings it back")


def _definitions(kind: str, files: list[Path] | None) -> "list[DefinitionFile]":
    from backlog_worker.integrations.project import definition_at

    return [definition_at(kind, path) for path in paths(kind, files)]


def _named(files: "list[DefinitionFile]", names: list[str]) -> "list[DefinitionFile]":
    """Return the files with these names, or all files without names; raises NotFoundError."""
    from backlog_worker.lifecycle.reading import Read, read

    if not names:
        return files
    held = {found.name: each for each in files if isinstance(found := read(each, None), Read)}
    for each in names:
        if each not in held:
            message = f"no file of this folder contains a valid pipeline {each}"
            raise NotFoundError(message, hint="backlog-worker pipeline validate")
    return [held[each] for each in names]


def _apply(files: "list[DefinitionFile]", reason: str, *, follow: bool, dry_run: bool) -> None:
    from backlog_worker.lifecycle import enact

    with_kit, given = kit()
    applied = enact.apply(with_kit, files, actor=given.who, reason=reason, dry_run=dry_run, follows=follow)
    words = "would come into force" if dry_run else "is in force"
    shown(
        "backlog-worker/applied",
        applied,
        lambda: say(*[f"{each} {words}" for each in applied] or ["no change: already in force"]),
    )
