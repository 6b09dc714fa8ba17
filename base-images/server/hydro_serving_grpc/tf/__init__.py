"""Tensors and their types, by the names that models of 2.x use too."""

from pkgutil import extend_path

from hydro_serving_grpc.tf.tensor_pb2 import MapTensorData, TensorProto, VariantTensorDataProto  # noqa: F401
from hydro_serving_grpc.tf.tensor_shape_pb2 import TensorShapeProto  # noqa: F401
from hydro_serving_grpc.tf.types_pb2 import *  # noqa: F401,F403

# Modules of the ancestor that are not here come from the model's own copy, where it has one.
__path__ = extend_path(__path__, __name__)
