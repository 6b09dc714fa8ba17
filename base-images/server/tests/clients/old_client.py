"""Asks a runtime with the ancestor's own messages and stubs; prints what came as JSON. Run by test_clients.py, in a process of its own.

usage: old_client.py PACKAGES PORT SEED|THIRD

PACKAGES is a folder with a release of hydro_serving_grpc as PyPI has it. Modules that protoc of those years wrote are read by protobuf's Python part only.
"""

import json
import os
import sys

os.environ["PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"] = "python"
sys.path.insert(0, sys.argv[1])

import grpc  # noqa: E402


def ask_seed(channel):
    import hydro_serving_grpc as hs

    shape = hs.TensorShapeProto(dim=[hs.TensorShapeProto.Dim(size=2), hs.TensorShapeProto.Dim(size=2)])
    tensor = hs.TensorProto(dtype=hs.DT_DOUBLE, tensor_shape=shape, double_val=[1, 2, 3, 4])
    request = hs.PredictRequest(model_spec=hs.ModelSpec(signature_name="infer"), inputs={"x": tensor})
    answer = hs.PredictionServiceStub(channel).Predict(request, timeout=30).outputs["y"]
    return hs.__file__, answer.dtype == hs.DT_DOUBLE, [dim.size for dim in answer.tensor_shape.dim], list(answer.double_val)


def ask_third(channel):
    import hydro_serving_grpc
    from hydro_serving_grpc.serving.contract.tensor_pb2 import Tensor, TensorShape
    from hydro_serving_grpc.serving.contract.types_pb2 import DT_DOUBLE
    from hydro_serving_grpc.serving.runtime.api_pb2 import PredictRequest
    from hydro_serving_grpc.serving.runtime.api_pb2_grpc import PredictionServiceStub

    tensor = Tensor(dtype=DT_DOUBLE, tensor_shape=TensorShape(dims=[2, 2]), double_val=[1, 2, 3, 4])
    answer = PredictionServiceStub(channel).Predict(PredictRequest(inputs={"x": tensor}), timeout=30).outputs["y"]
    return hydro_serving_grpc.__file__, answer.dtype == DT_DOUBLE, list(answer.tensor_shape.dims), list(answer.double_val)


with grpc.insecure_channel(f"127.0.0.1:{sys.argv[2]}") as channel:
    module, is_double, dims, values = (ask_seed if sys.argv[3] == "SEED" else ask_third)(channel)
print(json.dumps({"module": module, "is_double": is_double, "dims": dims, "values": values}))
