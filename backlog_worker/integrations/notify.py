"""Messages to people: a log line, a signed webhook, or chat and mail through apprise.

`BACKLOG_NOTIFY_ONCALL` is the address of `oncall`: `log:`, `https://...` for a webhook, or an address of apprise such
as `mailto://...` or `slack://...`. A webhook receives CloudEvents JSON, signed by Standard Webhooks if the secret
`NOTIFY_ONCALL_SECRET` is set. Messages to a name without an address go to the log.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import httpx2
from standardwebhooks import Webhook

from backlog_worker import installed
from backlog_worker.domain.events import digest
from backlog_worker.domain.legible import BREAK, visible
from backlog_worker.domain.masking import masked, masked_value
from backlog_worker.telemetry import emit

PREFIX = "BACKLOG_NOTIFY_"
SECONDS = 10.0
PORT_MAX = 65535
_HOST = re.compile(rb"[\w.:-]+")


@dataclass(frozen=True, slots=True)
class Notifier:
    """The addresses of people and systems, by name."""

    environment: Mapping[str, str] = field(repr=False)
    secrets: Callable[[str], str | None] = field(repr=False)

    def route(self, name: str) -> str:
        """Return the route of a name, without passwords."""
        return masked(self._address(name)).partition("?")[0]

    def tell(self, name: str, title: str, text: str, body: Mapping[str, Any]) -> str:
        """Send a message to one name and return the route; raises OSError if it was not accepted."""
        address = self._address(name)
        title, text = (plain_notice(each) for each in (title, text))
        if address.startswith("log:"):
            emit("notified", to=name, title=title, text=text)
            return "logged"
        if address.startswith(("https://", "http://")):
            return self._posted(name, address, {key: masked_value(each) for key, each in body.items()})
        return _sent(address, title, text)

    def _address(self, name: str) -> str:
        return self.environment.get(PREFIX + name.upper().replace("-", "_"), "") or "log:"

    def _posted(self, name: str, address: str, body: Mapping[str, Any]) -> str:
        if wrong := fault(address):
            raise OSError(wrong)
        now, delivery = datetime.now(UTC), digest(body)[:32]
        event = {
            "specversion": "1.0",
            "id": delivery,
            "source": f"backlog-worker/{body.get('env', '')}",
            "type": f"dev.backlog-worker.{body.get('kind', 'notice')}",
            "time": now.isoformat(),
            "datacontenttype": "application/json",
            "data": dict(body),
        }
        text = json.dumps(event)
        headers = {"content-type": "application/cloudevents+json", "webhook-id": delivery}
        headers["webhook-timestamp"] = str(int(now.timestamp()))
        secret = self.secrets(f"NOTIFY_{name.upper().replace('-', '_')}_SECRET")
        try:
            if secret:
                headers["webhook-signature"] = Webhook(secret.encode()).sign(delivery, now, text)
            with httpx2.Client(timeout=SECONDS, trust_env=False, follow_redirects=False) as client:
                answer = client.post(address, content=text.encode(), headers=headers)
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:  # an invalid port, host or text
            raise OSError(masked(f"{type(error).__name__}: {error}")) from None
        if not answer.is_success:
            message = f"{self.route(name)} answered {answer.status_code}"
            raise OSError(message)
        return f"posted, {answer.status_code}"


def plain_notice(text: str) -> str:
    """Return words for a chat or a mail, which name people of theirs and begin tags of theirs with these signs."""
    return visible(masked(text)).replace("@", f"@{BREAK}").replace("<", f"<{BREAK}")


def fault(address: str) -> str:
    """Return why no message can be sent to an address, before any is sent; empty if one may be."""
    if address.startswith("log:") or not address:
        return ""
    if not address.startswith(("https://", "http://")):
        return _sender(address)[1]
    try:
        url = httpx2.URL(address)
        port = url.port
    except (httpx2.InvalidURL, ValueError) as error:
        return masked(f"{type(error).__name__}: {error}")
    if not _HOST.fullmatch(url.raw_host):
        return f"{url.host!r} is no host" if url.host else "the address has no host"
    return "" if port is None or 0 < port <= PORT_MAX else f"{port} is no port"


def _sender(address: str) -> tuple[Any, str]:
    """Return the sender of apprise for an address, or why there is none."""
    if find_spec("apprise") is None:
        return None, f"chat and mail need apprise: {installed.command('notify')}"
    sender = import_module("apprise").Apprise()
    if not sender.add(address):
        return None, f"apprise does not support the address {masked(address).partition('?')[0]}"
    return sender, ""


def _sent(address: str, title: str, text: str) -> str:
    sender, message = _sender(address)
    if message:
        raise OSError(message)
    if not sender.notify(title=title, body=text, body_format="text"):
        message = "apprise could not deliver it"
        raise OSError(message)
    return "sent"
