"""Artifacts: the named files that a job produces, validated so that they can be stored and shown."""

from collections.abc import Mapping

from backlog_worker.domain.errors import InvalidInputError
from backlog_worker.domain.legible import kind_of, shown

ARTIFACTS_MAX = 100
ARTIFACT_BYTES_MAX = 16_000_000
NAME_BYTES_MAX = 400


def artifacts(given: object) -> Mapping[str, bytes]:
    """Validate artifacts and return them by name; raises InvalidInputError that names the invalid one."""
    if not isinstance(given, Mapping):
        message = f"its artifacts are {kind_of(given)}, not a mapping from names to bytes"
        raise InvalidInputError(message)
    found: dict[str, bytes] = {}
    for name, content in given.items():
        found[artifact_name(name)] = _content(name, content)
        if len(found) > ARTIFACTS_MAX:
            message = f"it has more than {ARTIFACTS_MAX} artifacts"
            raise InvalidInputError(message)
    return found


def artifact_name(name: object) -> str:
    """Validate and return the name of an artifact; raises InvalidInputError if it cannot be stored and shown."""
    if not isinstance(name, str) or not name:
        message = f"the artifact name {shown(name)} is not a text"
        raise InvalidInputError(message)
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        message = f"the artifact name {shown(name)} is not UTF-8"
        raise InvalidInputError(message) from None
    if size > NAME_BYTES_MAX or not name.isprintable():
        message = f"the artifact name {shown(name)} has more than {NAME_BYTES_MAX} bytes, or control characters"
        raise InvalidInputError(message)
    return str.__str__(name)


def _content(name: str, content: object) -> bytes:
    if not isinstance(content, bytes | bytearray):
        message = f"the artifact {shown(name)} is {kind_of(content)}, not bytes"
        raise InvalidInputError(message)
    if len(content) > ARTIFACT_BYTES_MAX:
        message = f"the artifact {shown(name)} has {len(content)} bytes, at most {ARTIFACT_BYTES_MAX} are kept"
        raise InvalidInputError(message)
    return bytes(content)
