"""The gRPC services of every era of the ancestor, over one model.

    tensorflow.serving.PredictionService            Predict of the seed era, which 2.x kept; Status of 2.x
    hydrosphere.serving.runtime.PredictionService   Predict of 3.x, whose request names no signature

Here: between a method's bytes and a prediction. Requests are decoded in the threads that predict, since a message of 256 MB takes its time. What must
stay true: paths and messages; all answers are made by prediction.predict.
"""

import grpc
from google.protobuf.message import DecodeError, EncodeError

import hydro_serving_grpc as hs
from lamina_runtime import bare, prediction
from lamina_runtime.backend import Failure

SEED = "tensorflow.serving.PredictionService"
THIRD = "hydrosphere.serving.runtime.PredictionService"

# StatusResponse{status: SERVING, message: "OK"} of 2.x, which has no other use here.
_STATUS_SERVING = b"\x08\x01\x12\x02OK"


class Services:
    def __init__(self, model, check, work):
        self._model = model
        self._check = check
        self._work = work

    def handlers(self):
        return (
            grpc.method_handlers_generic_handler(SEED, {"Predict": self._method(self.predict_seed), "Status": _unary(_status)}),
            grpc.method_handlers_generic_handler(THIRD, {"Predict": self._method(self.predict_third)}),
        )

    def _method(self, function):
        async def method(encoded, context):
            try:
                return await self._work.run(function, encoded)
            except Failure as failure:
                await context.abort(failure.code, failure.message)

        return _unary(method)

    def predict_seed(self, encoded):
        request = _decoded(hs.PredictRequest, encoded)
        signature = prediction.signature_of(self._model, request.model_spec.signature_name)
        return _encoded(prediction.predict(signature, request.inputs, self._check))

    def predict_third(self, encoded):
        request = _decoded(bare.PredictRequest, encoded)
        signature = prediction.signature_of(self._model, "")
        inputs = {name: bare.from_bare(tensor) for name, tensor in request.inputs.items()}
        response = bare.PredictResponse()
        for name, tensor in prediction.predict(signature, inputs, self._check).outputs.items():
            try:
                response.outputs[name].CopyFrom(bare.to_bare(tensor))
            except bare.NotInDialect as dtype:
                message = f"{signature.name} returned {dtype} in {name}, which the messages of 3.x do not have: ask {SEED}"
                raise Failure(grpc.StatusCode.INTERNAL, message) from None
        return _encoded(response)


def _unary(method):
    # No deserializer: bytes in, bytes out.
    return grpc.unary_unary_rpc_method_handler(method)


async def _status(_encoded_empty, _context):
    return _STATUS_SERVING


def _decoded(message, encoded):
    try:
        return message.FromString(encoded)
    except DecodeError:
        name = message.DESCRIPTOR.full_name
        raise Failure(grpc.StatusCode.INVALID_ARGUMENT, f"the request is no {name}: its bytes cannot be decoded") from None


def _encoded(response):
    try:
        return response.SerializeToString()
    except (EncodeError, ValueError):
        # protobuf's own limit of 2 GiB.
        raise Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "the answer is too large for a message") from None
