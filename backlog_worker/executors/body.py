"""The body of an HTTP response: read within limits, and described."""

import httpx2

from backlog_worker.domain.legible import legible
from backlog_worker.domain.masking import cut
from backlog_worker.executors import answers

ANSWER_BYTES_MAX = 16_000_000


def bounded(answer: httpx2.Response) -> bytes:
    """Read a response; raises ValueError if it is too large or compressed more than once."""
    if "," in answer.headers.get("content-encoding", ""):
        message = "an answer that is compressed more than once"
        raise ValueError(message)
    chunks, size = [], 0
    for chunk in answer.iter_bytes():
        chunks.append(chunk)
        size += len(chunk)
        if size > ANSWER_BYTES_MAX:
            message = f"more than {ANSWER_BYTES_MAX} bytes"
            raise ValueError(message)
    return b"".join(chunks)


def words_of(answer: httpx2.Response, body: bytes) -> str:
    """Return the status of a response and its error message."""
    try:
        error = answers.parsed(body).get("error")
        text = answers.text(error.get("message") if isinstance(error, dict) else error)
    except (ValueError, AttributeError):
        text = beginning(body)
    if answer.has_redirect_location:
        text = (
            f"it redirects to {answer.headers['location']}, which is not followed; set `endpoint` to the final address"
        )
    return cut(legible(f"status {answer.status_code}: {text or 'no message'}"), 400)


def beginning(body: bytes) -> str:
    """Return the beginning of a body as text."""
    return cut(legible(body[:2000].decode(errors="replace")).strip(), 300)
