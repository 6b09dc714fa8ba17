"""The names that a seed-era func_main.py expects of `import hydro_serving_grpc as hs`.

This file and its neighbours only arrange names. The *_pb2 modules that it imports are made by protoc from this repository's proto/ folder when
the base image is built, and are not kept in it. What must stay true: every name that models of 2018 used stays reachable, at the top level
and below `contract`, `tf` and `tf.api`. `tf.api.prediction_service_pb2` exists but is not imported here: it registers the name
tensorflow.serving.PredictionService for the whole process, and a model that brings TensorFlow Serving's own client registers that too. And message
classes are ours, whatever the model brings: two of them for one message would not take each other's tensors.
"""

from pkgutil import extend_path

from hydro_serving_grpc.contract.model_contract_pb2 import ModelContract
from hydro_serving_grpc.contract.model_field_pb2 import ModelField
from hydro_serving_grpc.contract.model_signature_pb2 import ModelSignature
from hydro_serving_grpc.tf.api.model_pb2 import ModelSpec
from hydro_serving_grpc.tf.api.predict_pb2 import PredictRequest, PredictResponse
from hydro_serving_grpc.tf.api.prediction_service_pb2_grpc import (
    PredictionServiceServicer,
    PredictionServiceStub,
    add_PredictionServiceServicer_to_server,
)
from hydro_serving_grpc.tf.tensor_pb2 import MapTensorData, TensorProto, VariantTensorDataProto
from hydro_serving_grpc.tf.tensor_shape_pb2 import TensorShapeProto

# DataType and all DT_*: the proto file is the list, so it is not repeated here.
from hydro_serving_grpc.tf.types_pb2 import *  # noqa: F401,F403

# Modules of the ancestor that are not here come from the model's own copy, where it has one.
__path__ = extend_path(__path__, __name__)
