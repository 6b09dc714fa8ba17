"""A linear regression: y = x · coefficients + intercept, for any number of rows at once.

The runtime imports this file when it starts and calls `infer` for each request, because the contract's signature is called infer and its input
x. It is an example of the seed era's interface: tensors come in and go out as TensorProto. Not training: weights.json is the outcome of that.
"""

import json

import hydro_serving_grpc as hs
import numpy as np

with open("/model/files/weights.json", encoding="utf-8") as file:
    WEIGHTS = json.load(file)

COEFFICIENTS = np.array(WEIGHTS["coefficients"], dtype=np.float64)
INTERCEPT = float(WEIGHTS["intercept"])


def infer(x):
    rows = to_rows(x)
    return hs.PredictResponse(outputs={"y": to_tensor(rows @ COEFFICIENTS + INTERCEPT)})


def to_rows(tensor):
    if tensor.dtype != hs.DT_DOUBLE:
        raise ValueError(f"x has to be DT_DOUBLE, and is {hs.DataType.Name(tensor.dtype)}")
    # Clients send elements in one of two ways: as the bytes of the array, or one by one.
    if tensor.tensor_content:
        elements = np.frombuffer(tensor.tensor_content, dtype="<f8")
    else:
        elements = np.array(tensor.double_val, dtype=np.float64)
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    if len(shape) != 2 or shape[1] != len(COEFFICIENTS):
        raise ValueError(f"x has to have the shape [rows, {len(COEFFICIENTS)}], and has {shape}")
    if elements.size != np.prod(shape):
        raise ValueError(f"x has the shape {shape}, but {elements.size} elements")
    return elements.reshape(shape)


def to_tensor(values):
    shape = hs.TensorShapeProto(dim=[hs.TensorShapeProto.Dim(size=len(values))])
    return hs.TensorProto(dtype=hs.DT_DOUBLE, tensor_shape=shape, double_val=values)
