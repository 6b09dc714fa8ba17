"""An HTTP/1.1 server on asyncio's streams: connections, answers, the stop.

With the standard library only: the image has no web framework, and must not bring one into the way of a model's own. No routes (http_routes.py). What must
stay true: a connection is closed after a request that was not understood to its end; a stop lets the answers that are being made go out, and waits for
nothing else.
"""

import asyncio
import contextlib
import errno
import json
import logging
import socket
from http import HTTPStatus

from lamina_runtime import http_request
from lamina_runtime.http_request import HEADER_BYTES_MAX, Refusal

log = logging.getLogger("lamina.http")

CONNECTIONS_MAX = 512
# What a client may take for an answer's rest after the last byte that it took.
_DRAIN_S = 60
_BACKLOG = 128
# How long, and for how much, a client may go on sending what was refused.
_LINGER_S = 5
_LINGER_BYTES = 16 * 1024 * 1024


async def start(port, answer, body_bytes_max):
    """`answer(head, body)` is a coroutine; it returns (status, headers, body). 0 lets the kernel choose the port."""
    http = Http(answer, body_bytes_max)
    http.listener = await asyncio.start_server(http.serve, sock=_socket(port), limit=HEADER_BYTES_MAX)
    http.port = http.listener.sockets[0].getsockname()[1]
    return http


def _socket(port):
    # Machines without IPv6 refuse the first; a port that is taken is so for both.
    if socket.has_dualstack_ipv6():
        try:
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=_BACKLOG)
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                raise
    return socket.create_server(("", port), backlog=_BACKLOG)


class Http:
    def __init__(self, answer, body_bytes_max):
        self._answer = answer
        self._body_bytes_max = body_bytes_max
        self._connections = set()
        # Those of the connections that owe somebody an answer.
        self._busy = set()
        self._stopping = False

    async def serve(self, reader, writer):
        task = asyncio.current_task()
        if len(self._connections) >= CONNECTIONS_MAX:
            writer.close()
            return
        self._connections.add(task)
        try:
            while await self._exchange(task, reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError, asyncio.CancelledError):
            # The client has gone, or this process goes.
            pass
        finally:
            await _close(writer)
            self._connections.discard(task)
            self._busy.discard(task)

    async def _exchange(self, task, reader, writer):
        """One request and its answer; whether there may be another on this connection."""
        head, keep_alive, refused = None, False, False
        try:
            head = await http_request.read_head(reader)
            if head is None:
                return False
            self._busy.add(task)
            body = await http_request.read_body(reader, writer, head, self._body_bytes_max)
            keep_alive = head.keep_alive
            status, headers, content = await self._answer(head, body)
        except Refusal as refusal:
            refused = True
            status, headers, content = refusal.status, {}, json.dumps({"error": refusal.message}).encode()
        except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError):
            raise
        except Exception:
            log.exception("%s %s failed", head.method, head.target)
            status, headers, content = 500, {}, b'{"error": "the runtime failed; its log says why"}'
        keep_alive = keep_alive and not self._stopping
        await self._send(writer, head, status, {**headers, "Connection": "keep-alive" if keep_alive else "close"}, content)
        if refused:
            await _linger(reader, writer)
        # Where the connection ends, it counts until its last bytes are gone.
        if keep_alive:
            self._busy.discard(task)
        return keep_alive

    async def _send(self, writer, head, status, headers, content):
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", "Content-Type: application/json", f"Content-Length: {len(content)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n")
        if head is None or head.method != "HEAD":
            writer.write(content)
        await asyncio.wait_for(writer.drain(), _DRAIN_S)

    async def stop(self, grace_s):
        self._stopping = True
        self.listener.close()
        for task in self._connections - self._busy:
            task.cancel()
        if self._busy:
            await asyncio.wait(set(self._busy), timeout=grace_s)
        for task in self._connections:
            task.cancel()


async def _close(writer):
    writer.close()
    with contextlib.suppress(OSError, asyncio.TimeoutError, asyncio.CancelledError):
        await asyncio.wait_for(writer.wait_closed(), _DRAIN_S)


async def _linger(reader, writer):
    """Lets a client that is still sending read its refusal: closed at once, the kernel would take the answer back from it."""
    if writer.can_write_eof():
        writer.write_eof()
    deadline, left = asyncio.get_running_loop().time() + _LINGER_S, _LINGER_BYTES
    while left > 0:
        piece = await asyncio.wait_for(reader.read(1 << 16), deadline - asyncio.get_running_loop().time())
        if not piece:
            return
        left -= len(piece)
