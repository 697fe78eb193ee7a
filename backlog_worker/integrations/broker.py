"""Ask whether the broker answers, over a real connection."""

from kombu import Connection

from backlog_worker.domain.masking import cut, masked
from backlog_worker.integrations import Answer

SECONDS = 3


def ask(url: str, seconds: int = SECONDS) -> Answer:
    """Connect to the broker at *url* and log in as a worker would; takes little longer than *seconds*."""
    address = masked(url)
    options = {"socket_timeout": seconds, "socket_connect_timeout": seconds} if not url.startswith("amqp") else {}
    try:
        with Connection(url, connect_timeout=seconds, transport_options=options) as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=seconds)
            connection.default_channel  # noqa: B018 - opens a channel, which connects to Redis
    except Exception as error:  # noqa: BLE001 - an edge: each transport has its own errors, and any of them is the result
        return Answer(address=address, error=cut(str(error), 120) or "no answer")
    return Answer(address=address)
