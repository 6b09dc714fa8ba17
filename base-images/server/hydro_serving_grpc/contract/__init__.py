"""The messages of contracts, by the names that models of 2.x use too."""

from pkgutil import extend_path

from hydro_serving_grpc.contract.model_contract_pb2 import ModelContract  # noqa: F401
from hydro_serving_grpc.contract.model_field_pb2 import ModelField  # noqa: F401
from hydro_serving_grpc.contract.model_signature_pb2 import ModelSignature  # noqa: F401

# Modules of the ancestor that are not here come from the model's own copy, where it has one.
__path__ = extend_path(__path__, __name__)
