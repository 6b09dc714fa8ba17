"""Client and server ends of tensorflow.serving.PredictionService.

Written by hand instead of by a protoc plug-in, so that building the base needs no grpcio-tools. It is not what the runtime itself serves with
(that is lamina_runtime.server); it is here because seed-era scripts and models that call other models use these three names. What must stay
true: names, arguments and the path on the wire.
"""

import grpc

from hydro_serving_grpc.tf.api.predict_pb2 import PredictRequest, PredictResponse

SERVICE_NAME = "tensorflow.serving.PredictionService"


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
