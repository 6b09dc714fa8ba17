"""Asks a model for predictions, as somebody else's client does: gRPC's own Python library, messages made by protoc.

usage: predict.py TREE PORT

TREE is a folder with the module hydro_serving_grpc (base-images/assemble/python_tree.sh makes it). Waits until the server is
ready, asks for two rows in one request, and prints the answer as JSON; then asks for a signature that is not there and prints how that was refused.
Not a test: that is containers.rs, which knows the right numbers.
"""

import json
import sys

import grpc

sys.path.insert(0, sys.argv[1])

import hydro_serving_grpc as hs  # noqa: E402

READY_TIMEOUT_S = 120

channel = grpc.insecure_channel(f"127.0.0.1:{sys.argv[2]}")
grpc.channel_ready_future(channel).result(timeout=READY_TIMEOUT_S)
predict = hs.PredictionServiceStub(channel).Predict


def request(signature_name):
    shape = hs.TensorShapeProto(dim=[hs.TensorShapeProto.Dim(size=size) for size in (2, 2)])
    x = hs.TensorProto(dtype=hs.DT_DOUBLE, tensor_shape=shape, double_val=[1.0, 1.0, 4.0, -2.0])
    spec = hs.ModelSpec(name="linear_regression", signature_name=signature_name)
    return hs.PredictRequest(model_spec=spec, inputs={"x": x})


answer = predict(request("infer"), timeout=30).outputs["y"]
found = {"dtype": hs.DataType.Name(answer.dtype), "dims": [dim.size for dim in answer.tensor_shape.dim], "values": list(answer.double_val)}
try:
    predict(request("no_such_signature"), timeout=30)
    found["refused"] = None
except grpc.RpcError as error:
    found["refused"] = error.code().name
print(json.dumps(found))
