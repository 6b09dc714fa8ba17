"""grpc.health.v1.Health: Check and Watch.

It says that the model is loaded and the process is not stopping; it does not call the model. Answers come from the event loop, never from the
threads that predict, so a probe is answered while every one of those is busy: a busy server must not be restarted for being busy.

The messages of the protocol are one field each, and protobuf's wrapper types have the same bytes: a request is a StringValue, a response an
Int32Value (an enum is a varint too). Taking those instead of generated classes keeps "grpc/health/v1/health.proto" out of the process-wide
registry, where a model that brings grpcio-health-checking puts its own copy, and two different copies are an error.
"""

import asyncio

import grpc
from google.protobuf.wrappers_pb2 import Int32Value, StringValue

SERVICE_NAME = "grpc.health.v1.Health"

SERVING = 1
NOT_SERVING = 2
SERVICE_UNKNOWN = 3


class Health:
    """The state of the named services, all of them alike. Lives in one event loop."""

    def __init__(self, services):
        # The empty name is the process as a whole.
        self._services = frozenset(services) | {""}
        self._status = NOT_SERVING
        self._stopped = False
        self._changed = asyncio.Event()

    def serve(self):
        self._set(SERVING)

    def stop(self):
        """NOT_SERVING for good. Watchers are told and then let go: a stream left open would hold up the stop until the grace period ends."""
        self._stopped = True
        self._set(NOT_SERVING)

    def handler(self):
        return grpc.method_handlers_generic_handler(
            SERVICE_NAME,
            {
                "Check": grpc.unary_unary_rpc_method_handler(
                    self.check, request_deserializer=StringValue.FromString, response_serializer=Int32Value.SerializeToString
                ),
                "Watch": grpc.unary_stream_rpc_method_handler(
                    self.watch, request_deserializer=StringValue.FromString, response_serializer=Int32Value.SerializeToString
                ),
            },
        )

    async def check(self, request, context):
        if request.value not in self._services:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no service {request.value!r} here")
        return Int32Value(value=self._status)

    async def watch(self, request, context):
        known = request.value in self._services
        sent = None
        while True:
            # Taken together and before anything is sent: a change meanwhile is not slept through, and a stop not taken for told.
            changed, stopped = self._changed, self._stopped
            status = self._status if known else SERVICE_UNKNOWN
            if status != sent:
                yield Int32Value(value=status)
                sent = status
            if stopped:
                return
            await changed.wait()

    @property
    def status(self):
        return self._status

    def _set(self, status):
        self._status = status
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
