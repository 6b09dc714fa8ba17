"""Requests and answers, by the names that models of 2.x use too."""

from pkgutil import extend_path

from hydro_serving_grpc.tf.api.model_pb2 import ModelSpec  # noqa: F401
from hydro_serving_grpc.tf.api.predict_pb2 import PredictRequest, PredictResponse  # noqa: F401
from hydro_serving_grpc.tf.api.prediction_service_pb2_grpc import (  # noqa: F401
    PredictionServiceServicer,
    PredictionServiceStub,
    add_PredictionServiceServicer_to_server,
)

# Modules of the ancestor that are not here come from the model's own copy, where it has one.
__path__ = extend_path(__path__, __name__)
