"""Client and server ends of hydrosphere.serving.runtime.PredictionService, of the 3.x releases.

Written by hand, as tf/api/prediction_service_pb2_grpc.py is, and for the same reasons. What must stay true: names, arguments and the path on the wire.
"""

import grpc

from hydro_serving_grpc.serving.runtime.api_pb2 import PredictRequest, PredictResponse

SERVICE_NAME = "hydrosphere.serving.runtime.PredictionService"


class PredictionServiceStub:
    """The client: `PredictionServiceStub(channel).Predict(request)`."""

    def __init__(self, channel):
        self.Predict = channel.unary_unary(
            f"/{SERVICE_NAME}/Predict",
            request_serializer=PredictRequest.SerializeToString,
            response_deserializer=PredictResponse.FromString,
        )


class PredictionServiceServicer:
    """What a server of one's own derives from."""

    def Predict(self, request, context):
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "this server does not implement Predict")


def add_PredictionServiceServicer_to_server(servicer, server):
    predict = grpc.unary_unary_rpc_method_handler(
        servicer.Predict,
        request_deserializer=PredictRequest.FromString,
        response_serializer=PredictResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE_NAME, {"Predict": predict}),))
