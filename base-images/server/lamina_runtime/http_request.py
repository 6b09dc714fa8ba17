"""One HTTP/1.1 request off a stream, within limits.

No routes and no answers. What must stay true: nothing of a request is kept beyond its limit, wherever the stranger puts it (line, headers, chunks, body),
and a request whose length is told in two ways is refused: proxies and servers that choose differently are how requests are smuggled.
"""

import asyncio
from dataclasses import dataclass
from typing import Dict

HEADER_BYTES_MAX = 32 * 1024
# Between two pieces of a request. A body of 256 MB may take long, a client that sends nothing may not.
IDLE_S = 60
_PIECE_BYTES = 1 << 20


class Refusal(Exception):
    """A request that is answered without being understood; the connection is closed then."""

    def __init__(self, status, message):
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True)
class Head:
    method: str
    target: str
    # Names in lower case.
    headers: Dict[str, str]
    keep_alive: bool


async def read_head(reader, idle_s=IDLE_S):
    """The next request's head; None where the client has gone, or has nothing more to ask."""
    try:
        # An empty line or two before a request are forgiven, as RFC 9112 has it.
        encoded = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), idle_s)
    except (asyncio.IncompleteReadError, asyncio.TimeoutError, ConnectionError):
        return None
    except asyncio.LimitOverrunError:
        raise Refusal(431, f"the request's headers are longer than {HEADER_BYTES_MAX} bytes") from None
    lines = encoded.decode("latin-1").lstrip("\r\n").split("\r\n")
    words = lines[0].split(" ")
    if len(words) != 3 or not words[0].isalpha() or words[2] not in ("HTTP/1.1", "HTTP/1.0"):
        raise Refusal(400, "this is no HTTP/1.1 request; gRPC is on another port")
    headers = _headers(lines[1:])
    # A list of words; HTTP/1.0 closes unless it is told not to.
    connection = {word.strip() for word in headers.get("connection", "").lower().split(",")}
    keep_alive = "keep-alive" in connection if words[2] == "HTTP/1.0" else "close" not in connection
    return Head(words[0], words[1], headers, keep_alive)


def _headers(lines):
    headers = {}
    for line in filter(None, lines):
        name, colon, value = line.partition(":")
        # A blank before the colon, or a line that goes on, is what some read and others do not.
        if not colon or not name or name != name.strip() or "\r" in value or "\n" in value:
            raise Refusal(400, "the request has a header line without a name and a value")
        name = name.lower()
        if name in headers and name in ("content-length", "transfer-encoding", "host"):
            raise Refusal(400, f"the request has the header {name} twice")
        headers[name] = value.strip()
    return headers


async def read_body(reader, writer, head, bytes_max):
    length, encoding = head.headers.get("content-length"), head.headers.get("transfer-encoding")
    if length is not None and encoding is not None:
        raise Refusal(400, "the request tells its length in two ways")
    if encoding is not None and encoding.lower() != "chunked":
        raise Refusal(501, f"the transfer-encoding {encoding[:100]!r} is not spoken here")
    if length is not None and not (length.isascii() and length.isdigit() and len(length) <= 18):
        raise Refusal(400, f"content-length is {length[:100]!r}")
    if length is not None and int(length) > bytes_max:
        raise _too_large(bytes_max)
    if head.headers.get("content-encoding", "identity").lower() != "identity":
        raise Refusal(415, "the body is compressed, which is not spoken here")
    if (encoding or length) and head.headers.get("expect", "").lower() == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    if encoding is not None:
        return await _chunks(reader, bytes_max)
    body = bytearray()
    await _append(reader, int(length or 0), body)
    return bytes(body)


async def _chunks(reader, bytes_max):
    body = bytearray()
    while True:
        line = (await _line(reader)).partition(b";")[0].strip()
        if not line or len(line) > 16 or line.strip(b"0123456789abcdefABCDEF"):
            raise Refusal(400, "the body has a chunk without a length")
        length = int(line, 16)
        if len(body) + length > bytes_max:
            raise _too_large(bytes_max)
        if length == 0:
            break
        await _append(reader, length, body)
        if await _line(reader):
            raise Refusal(400, "the body has a chunk that is longer than it says")
    trailer_bytes = 0
    while True:
        line = await _line(reader)
        trailer_bytes += len(line)
        if not line:
            return bytes(body)
        if trailer_bytes > HEADER_BYTES_MAX:
            raise Refusal(431, f"the request's trailers are longer than {HEADER_BYTES_MAX} bytes")


async def _line(reader):
    try:
        return (await asyncio.wait_for(reader.readuntil(b"\r\n"), IDLE_S))[:-2]
    except asyncio.LimitOverrunError:
        raise Refusal(400, "the body has a chunk without a length") from None


async def _append(reader, length, body):
    # Piece by piece: a length is only a promise, and no memory is set aside for it.
    while length:
        piece = await asyncio.wait_for(reader.read(min(length, _PIECE_BYTES)), IDLE_S)
        if not piece:
            raise asyncio.IncompleteReadError(b"", length)
        body += piece
        length -= len(piece)


def _too_large(bytes_max):
    return Refusal(413, f"the body is larger than {bytes_max} bytes")
