"""The process: load the model, open the port, serve until told to stop.

What must stay true: the port opens only when the model is loaded, so "the port answers" and "it can predict" are one thing for every probe
there is. Predictions run in threads, because users' functions block; everything else runs in the event loop. Nothing is written to disk: the
root file system may be read-only.
"""

import asyncio
import logging
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc

import hydro_serving_grpc as hs
from lamina_runtime import backend, contract, prediction
from lamina_runtime.health import Health
from lamina_runtime.settings import Refused

log = logging.getLogger("lamina.server")

PREDICTION_SERVICE = "tensorflow.serving.PredictionService"

# The ancestor's later runtimes took this much, and its clients send it: images and batches go above gRPC's default of 4 MiB quickly.
MESSAGE_BYTES_MAX = 256 * 1024 * 1024


def run(settings):
    _stop_while_loading()
    try:
        _load_and_serve(settings)
    except backend.Stopped:
        log.info("told to stop while the model was loading")


def _load_and_serve(settings):
    model = backend.load(settings, contract.read(os.path.join(settings.model_dir, "contract.protobin")))
    log.info("model %s is loaded; signatures: %s", model.name or "(without a name)", ", ".join(sorted(model.signatures)))
    executor = ThreadPoolExecutor(max_workers=settings.predict_threads, thread_name_prefix="predict")
    running = asyncio.run(_serve(settings, model, executor))
    executor.shutdown(wait=not running, cancel_futures=True)
    if running:
        # A function that does not return would keep the interpreter from ending, and the container until it is killed.
        log.warning("gave up on %d predictions that were still running after %d s", running, settings.stop_grace_s)
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


async def _serve(settings, model, executor):
    """Returns the number of predictions that outlived the grace period."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    predictions = Predictions(model, executor)
    health = Health([PREDICTION_SERVICE])
    server = grpc.aio.server(
        options=(
            ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
            ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
            # With it, a second server on the same port is no error but takes half of the requests.
            ("grpc.so_reuseport", 0),
        )
    )
    server.add_generic_rpc_handlers((predictions.handler(), health.handler()))
    port = _open_port(server, settings.port)
    await server.start()
    health.serve()
    log.info("ready on port %d", port)

    await stop.wait()
    log.info("stopping")
    health.stop()
    await server.stop(settings.stop_grace_s)
    return predictions.running


class Predictions:
    """The Predict method: moves each request to a thread and its outcome back."""

    def __init__(self, model, executor):
        self._model = model
        self._executor = executor
        self.running = 0

    def handler(self):
        predict = grpc.unary_unary_rpc_method_handler(
            self.predict,
            request_deserializer=hs.PredictRequest.FromString,
            response_serializer=hs.PredictResponse.SerializeToString,
        )
        return grpc.method_handlers_generic_handler(PREDICTION_SERVICE, {"Predict": predict})

    async def predict(self, request, context):
        future = asyncio.get_running_loop().run_in_executor(self._executor, prediction.predict, self._model, request)
        # Counted until the thread is done, not until the caller has gone: a cancelled call leaves its function running.
        self.running += 1
        future.add_done_callback(self._done)
        try:
            return await asyncio.shield(future)
        except backend.Failure as failure:
            await context.abort(failure.code, failure.message)

    def _done(self, future):
        self.running -= 1
        if not future.cancelled():
            # Marks the outcome as seen, where the caller has gone and nobody else will.
            future.exception()


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


def _stop_while_loading():
    # As the first process of a container, this one would not be stopped by SIGTERM at all without a handler.
    def stopped(_number, _frame):
        raise backend.Stopped

    signal.signal(signal.SIGTERM, stopped)
