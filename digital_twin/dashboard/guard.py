"""Who may see the page: its socket, its token, and what is refused before viser hears of it.

viser listens wherever its port happens to be free and answers anybody. Here it gets a socket that is ours, bound before
anything slow is imported (so that an early browser waits instead of failing), and every connection is looked at first.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import http
import ipaddress
import logging
import secrets
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from digital_twin.core.errors import TwinError

BIGGEST = 256 * 1024  # [bytes] of a message from a browser
PING = 10.0  # [s] between signs of life; half of how long one may take
BACKLOG = 64


def open_socket(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        TwinError: one line: the port is in use, or the address is not this machine's; and what to do.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
            0
        ]
        s = socket.socket(family, kind)
    except OSError as e:
        raise TwinError(f"dashboard: '{host}' is no address of this machine ({e.strerror})") from e
    try:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(address)
        s.listen(BACKLOG)
    except OSError as e:
        s.close()
        if e.errno == errno.EADDRINUSE:
            raise TwinError(
                f"port {port} is in use, so the page is not served; free it, or choose another with --dashboard-port "
                "(dashboard_port:=, parameter port)"
            ) from e
        raise TwinError(f"the page cannot be served at {host} port {port}: {e.strerror}") from e
    s.setblocking(False)
    return s


def is_local(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


class Guard:
    """Lets in who may come in.

    Attributes:
        token: what the page's path must begin with; empty: nothing. open: pages that are open.
        refused: connections refused, by reason.
    """

    def __init__(self, host: str, token: str, most_viewers: int) -> None:
        """A token is made up where others than this machine can reach the page and none is given."""
        self.token = token or ("" if is_local(host) else secrets.token_urlsafe(12))
        self._local, self._most = is_local(host), most_viewers
        self.open = 0
        self.refused: Counter[str] = Counter()

    def url(self, host: str, port: int) -> str:
        """Where to look."""
        name = socket.gethostname() if host in ("0.0.0.0", "::", "") else host  # noqa: S104
        return f"http://{f'[{name}]' if ':' in name else name}:{port}/" + (f"{self.token}/" if self.token else "")

    def look(self, path: str, host: str, origin: str | None) -> tuple[int, str]:
        """The HTTP status for a request (200: let it in), and the path without the token or why not."""
        # A page from elsewhere that a browser has open can reach this machine too: it must not steer the robot.
        if origin is not None and origin.split("://")[-1] != host:
            return self._no(403, "origin", "another site's page cannot use this one")
        if not self.token:
            name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
            if self._local and not is_local(name):
                return self._no(403, "host", "this page is served to its own machine only")
            return 200, path
        first, _, rest = path.lstrip("/").partition("/")
        given, question, query = first.partition("?")
        if not secrets.compare_digest(given.encode(), self.token.encode()):
            return self._no(403, "token", "this page wants its whole address, as the twin printed it")
        return 200, f"/{rest}" + question + query

    def _no(self, status: int, reason: str, words: str) -> tuple[int, str]:
        self.refused[reason] += 1
        return status, words

    @contextlib.contextmanager
    def watching(self, own: socket.socket) -> Iterator[None]:
        """While in this context a viser server that starts listens on our socket, behind this guard.

        Raises:
            TwinError: viser did not start its server in the way that we know.
        """
        import websockets.asyncio.server as module

        original, used = module.serve, []

        def serve(handler: Any, host: Any, port: Any, **options: Any) -> Any:
            used.append(port)
            options |= {
                "process_request": self._gate(options["process_request"]), "max_size": BIGGEST, "ping_interval": PING,
                "ping_timeout": 2 * PING, "open_timeout": PING, "close_timeout": 1.0, "logger": _silent(),
            }  # fmt: skip
            return original(self._counted(handler), sock=own, **options)

        module.serve = serve  # type: ignore[assignment]
        try:
            yield
        finally:
            module.serve = original
        if not used:
            raise TwinError("this version of viser starts its server in another way; install viser 1.1")

    def _gate(self, answer: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        from websockets.datastructures import Headers
        from websockets.http11 import Response

        def gate(connection: Any, request: Any) -> Any:
            hosts, origins = request.headers.get_all("Host"), request.headers.get_all("Origin")
            status, said = self.look(request.path, hosts[0] if hosts else "", origins[0] if origins else None)
            upgrade = request.headers.get("Upgrade", "").lower() == "websocket"
            if status == 200 and upgrade and self.open >= self._most:
                status, said = self._no(503, "too many", f"{self._most} pages are open already")
            if status != 200:
                body = f"{said}\n".encode()
                headers = Headers({"Content-Type": "text/plain; charset=utf-8", "Content-Length": str(len(body))})
                return Response(status, http.HTTPStatus(status).phrase, headers, body)
            response = answer(connection, dataclasses.replace(request, path=said))
            if response is not None:
                for key, value in _HEADERS.items():
                    response.headers[key] = value
            return response

        return gate

    def _counted(self, handler: Callable[[Any], Any]) -> Callable[[Any], Any]:
        async def handle(connection: Any) -> None:
            self.open += 1
            try:
                await handler(connection)
            except Exception:  # whatever rubbish does in viser: this connection ends, the page goes on
                self.refused["rubbish"] += 1
                await connection.close(1008, "not what a page sends")
            finally:
                self.open -= 1

        return handle


# All that the page loads is in the page itself.
_HEADERS = {
    "Content-Security-Policy": "default-src 'self' 'unsafe-inline' 'unsafe-eval' 'wasm-unsafe-eval' data: blob:; "
    "connect-src 'self' data: blob:; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache",
}  # fmt: skip


def _silent() -> logging.Logger:
    """What goes wrong with a connection is counted, not printed with a traceback."""
    logger = logging.getLogger("digital_twin.dashboard.connections")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    return logger
