"""A database behind a network that may swallow everything, without a word and without a reset."""

import socket
import threading

import psycopg


class Hole:
    """A TCP proxy that can stop to forward: packets are taken, acknowledged, and never answered."""

    def __init__(self, url: str) -> None:
        self.swallows = threading.Event()
        with psycopg.connect(url) as direct:
            self._info = {
                "user": direct.info.user,
                "name": direct.info.dbname,
                "host": direct.info.host,
                "port": direct.info.port,
            }
        self._ends = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """The address of the database, through here."""
        return f"postgresql://{self._info['user']}@127.0.0.1:{self.port}/{self._info['name']}"

    def _server(self) -> socket.socket:
        host, port = self._info["host"], self._info["port"]
        if not host.startswith("/"):
            return socket.create_connection((host, port))
        far = socket.socket(socket.AF_UNIX)
        far.connect(f"{host}/.s.PGSQL.{port}")
        return far

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = self._server()
            self._ends += [near, far]
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._pass, args=(one, other), daemon=True).start()

    def _pass(self, one: socket.socket, other: socket.socket) -> None:
        try:
            while data := one.recv(65536):
                if not self.swallows.is_set():
                    other.sendall(data)
            if not self.swallows.is_set():
                other.shutdown(socket.SHUT_WR)
        except OSError:
            return

    def close(self) -> None:
        for each in [self._listener, *self._ends]:
            each.close()
