"""Whether the broker answers: asked over a real connection, and never more said than came back."""

from kombu import Connection

from backlog_worker.domain.masking import cut, masked
from backlog_worker.integrations import Answer

SECONDS = 3


def ask(url: str, seconds: int = SECONDS) -> Answer:
    """Connect to the broker at *url* and log in, as a worker would; takes little longer than *seconds*."""
    address = masked(url)
    options = {"socket_timeout": seconds, "socket_connect_timeout": seconds} if not url.startswith("amqp") else {}
    try:
        with Connection(url, connect_timeout=seconds, transport_options=options) as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=seconds)
            connection.default_channel  # noqa: B018 - opens a channel, which is where Redis is asked
    except Exception as error:  # noqa: BLE001 - an edge: every transport has errors of its own, and each is the finding
        return Answer(address=address, error=cut(str(error), 120) or "no answer")
    return Answer(address=address)
