"""An HTTP/1.1 server on asyncio's streams: connections, answers, the stop.

With the standard library only: the image has no web framework, and must not bring one into the way of a model's own. No routes (http_routes.py). What must
stay true: a connection is closed after a request that was not understood to its end; a stop lets the answers that are being made go out, and waits for
nothing else.
"""

import asyncio
import json
import logging
from http import HTTPStatus

from lamina_runtime import http_request
from lamina_runtime.http_request import HEADER_BYTES_MAX, Refusal

log = logging.getLogger("lamina.http")

CONNECTIONS_MAX = 512
# What a client may take for an answer's rest after the last byte that it took.
_DRAIN_S = 60


async def start(port, answer, body_bytes_max):
    """`answer(head, body)` is a coroutine; it returns (status, headers, body). 0 lets the kernel choose the port."""
    http = Http(answer, body_bytes_max)
    try:
        # The host None: all addresses of all families. With port 0 each family would get another one.
        host = "0.0.0.0" if port == 0 else None
        http.listener = await asyncio.start_server(http.serve, host, port, limit=HEADER_BYTES_MAX)
    except OSError as error:
        if error.errno or len(error.args) < 1:
            raise
        raise OSError(str(error)) from None
    http.port = http.listener.sockets[0].getsockname()[1]
    return http


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
            self._connections.discard(task)
            self._busy.discard(task)
            writer.close()

    async def _exchange(self, task, reader, writer):
        """One request and its answer; whether there may be another on this connection."""
        head, keep_alive = None, False
        try:
            head = await http_request.read_head(reader)
            if head is None:
                return False
            self._busy.add(task)
            body = await http_request.read_body(reader, writer, head, self._body_bytes_max)
            keep_alive = head.keep_alive
            status, headers, content = await self._answer(head, body)
        except Refusal as refusal:
            status, headers, content = refusal.status, {}, json.dumps({"error": refusal.message}).encode()
        except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError):
            raise
        except Exception:
            log.exception("%s %s failed", head.method, head.target)
            status, headers, content = 500, {}, b'{"error": "the runtime failed; its log says why"}'
        keep_alive = keep_alive and not self._stopping
        await self._send(writer, head, status, {**headers, "Connection": "keep-alive" if keep_alive else "close"}, content)
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
