"""Limits of a request: its size, and the time for its head, its body and its response."""

import asyncio

import uvicorn
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from backlog_worker.web.problem import problem

HEAD_SECONDS = 10.0  # from the time that a request is due until its head is complete
BODY_SECONDS = 30.0
ANSWER_SECONDS = 60.0  # of the whole request; work in a thread continues, and the caller is told so
CONNECTIONS_MAX = 500
_LATE, _LARGE, _AWAY = 408, 413, 503


class Limited:
    """Refuse a body that is larger than *most* bytes or too slow, and a response that takes too long."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self.app, self.most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward a request, limiting its bytes and its time."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        said = Headers(scope=scope).get("content-length", "0")
        if said.isdigit() and (len(said) > len(str(self.most)) or int(said) > self.most):
            await problem(_LARGE, f"the body has {said[:30]} bytes; at most {self.most} are accepted")(
                scope, receive, send
            )
            return
        await self._in_time(scope, self._counted(receive), send)

    async def _in_time(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def _sent(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self.app(scope, receive, _sent)
        except TimeoutError:
            if begun:  # a truncated response must not look complete
                raise
            await problem(_AWAY, f"no answer within {ANSWER_SECONDS:g} s; the request may still be carried out")(
                scope, receive, send
            )

    def _counted(self, receive: Receive) -> Receive:
        counted, whole = 0, False
        until = asyncio.get_running_loop().time() + BODY_SECONDS

        async def _next() -> Message:
            nonlocal counted, whole
            if whole:
                return await receive()  # the end of the connection: a response may take longer than a body
            try:
                async with asyncio.timeout_at(until):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(_LATE, f"the body was not complete within {BODY_SECONDS:g} s") from None
            counted += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if counted > self.most:
                raise HTTPException(_LARGE, f"the body has more than {self.most} bytes")
            return message

        return _next


class Deadline(H11Protocol):
    """HTTP/1.1 that closes a connection whose next request head is not complete in time."""

    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the deadline of the first request."""
        if isinstance(transport, asyncio.Transport):
            super().connection_made(transport)
            self._watch()

    def data_received(self, data: bytes) -> None:
        """Process data; single bytes do not extend the deadline."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the deadline."""
        self._forget()
        super().connection_lost(exc)

    def _watch(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._forget()
        elif self._waiting is None:
            self._waiting = self.loop.call_later(HEAD_SECONDS, self._close)

    def _forget(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _close(self) -> None:
        self._waiting = None
        if not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
            self.transport.close()


def serve(app: ASGIApp, host: str, port: int) -> None:
    """Serve until a signal arrives; every connection and request is limited."""
    uvicorn.run(
        app,
        host=host,
        port=port,
        log_level="warning",
        loop="asyncio",
        http=Deadline,
        limit_concurrency=CONNECTIONS_MAX,
    )
