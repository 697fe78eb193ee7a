"""The check of role names in files: a role is built in, or the policy names its people."""

from collections.abc import Collection, Iterator

from backlog_worker.domain import document
from backlog_worker.domain.document import Document, Path
from backlog_worker.domain.errors import Finding
from backlog_worker.domain.roles import ROLES


def role(source: Document, path: Path, name: str, people: Collection[str]) -> Iterator[Finding]:
    """Yield a finding for a role that nobody can have."""
    words = [*ROLES, *people]
    if name not in words:
        near = document.suggestion(name, words)
        way = f"one of: {', '.join(words)}; or name its people in the policy: roles: {{ {name or 'lead'}: [ana, li] }}"
        yield source.finding(path, "18", f'nobody has the role "{name}"', hint=f"{near} {way}".strip())
