"""The process: load the model, open the ports, serve until told to stop.

What must stay true: a port opens only when the model is loaded, so "the port answers" and "it can predict" are one thing for every probe
there is. Predictions run in threads, because users' functions block; everything else runs in the event loop. Nothing is written to disk: the
root file system may be read-only.
"""

import asyncio
import logging
import os
import signal
import sys

import grpc

from lamina_runtime import backend, contract, http_server, reflection, services
from lamina_runtime.health import Health
from lamina_runtime.http_routes import Routes
from lamina_runtime.settings import Refused
from lamina_runtime.work import Work

log = logging.getLogger("lamina.server")

# The ancestor's later runtimes took this much, and its clients send it: images and batches go above gRPC's default of 4 MiB quickly.
MESSAGE_BYTES_MAX = 256 * 1024 * 1024


def run(settings):
    _stop_while_loading()
    try:
        _load_and_serve(settings)
    except backend.Stopped:
        log.info("told to stop while the model was loading")


def _load_and_serve(settings):
    known = contract.read(os.path.join(settings.model_dir, "contract.protobin"))
    model = backend.load(settings, known)
    log.info("model %s is loaded; signatures: %s", model.name or "(without a name)", ", ".join(sorted(model.signatures)))
    work = Work(settings.predict_threads)
    asyncio.run(_serve(settings, known, model, work))
    running = work.running
    work.shut_down()
    if running:
        # A function that does not return would keep the interpreter from ending, and the container until it is killed.
        log.warning("gave up on %d predictions that were still running after %d s", running, settings.stop_grace_s)
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


async def _serve(settings, known, model, work):
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    health = Health([services.SEED, services.THIRD])
    server = grpc.aio.server(
        options=(
            ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
            ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
            # With it, a second server on the same port is no error but takes half of the requests.
            ("grpc.so_reuseport", 0),
        )
    )
    handlers = services.Services(model, settings.check, work).handlers()
    server.add_generic_rpc_handlers((*handlers, health.handler(), *reflection.handlers([services.SEED, services.THIRD])))
    port = _open_port(server, settings.port)
    http = await _open_http(settings, Routes(known, model, settings.check, work, health))
    await server.start()
    health.serve()
    # Before the line that people and scripts wait for.
    if http:
        log.info("HTTP on port %d", http.port)
    log.info("ready on port %d", port)

    await stop.wait()
    log.info("stopping")
    health.stop()
    await asyncio.gather(server.stop(settings.stop_grace_s), *([http.stop(settings.stop_grace_s)] if http else []))


def _open_port(server, port):
    # Machines without IPv6 refuse the first.
    for address in (f"[::]:{port}", f"0.0.0.0:{port}"):
        try:
            opened = server.add_insecure_port(address)
        except RuntimeError:
            continue
        if opened:
            return opened
    raise Refused(f"port {port} cannot be opened: another process has it, or this user may not (set APP_PORT)")


async def _open_http(settings, routes):
    if settings.http_port is None:
        return None
    try:
        return await http_server.start(settings.http_port, routes.answer, MESSAGE_BYTES_MAX)
    except OSError as error:
        problem = f"port {settings.http_port} cannot be opened for HTTP: {error.strerror or error} (set HTTP_PORT, or HTTP_PORT=off)"
        if settings.http_port_asked:
            raise Refused(problem) from None
        # Nobody asked for it, and in a network that is shared with others it may be theirs.
        log.warning("%s; serving gRPC only", problem)
        return None


def _stop_while_loading():
    # As the first process of a container, this one would not be stopped by SIGTERM at all without a handler.
    def stopped(_number, _frame):
        raise backend.Stopped

    signal.signal(signal.SIGTERM, stopped)
