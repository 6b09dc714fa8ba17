"""Requests and answers of the 3.x releases ⇄ the seed era's, which everything inside speaks.

The lists of values are the same under the same numbers; a shape is a packed list of sizes, and an unknown rank is no shape at all. What must stay true:
lossless from 3.x to the seed era's form; back, what 3.x has no word for is an error that names it.
"""

import hydro_serving_grpc as hs
from hydro_serving_grpc.serving.contract import tensor_pb2, types_pb2
from hydro_serving_grpc.serving.runtime import api_pb2
from lamina_runtime import dtypes

PredictRequest = api_pb2.PredictRequest
PredictResponse = api_pb2.PredictResponse


class NotInDialect(Exception):
    """The text names the dtype."""


# The recursions go through the parts of a DT_MAP, and are as deep as the message, which protobuf has limited.
def from_bare(bare):
    """The seed era's form of a tensor; the bare one is used up."""
    shape = list(bare.tensor_shape.dims) if bare.HasField("tensor_shape") else None
    elements = [{name: from_bare(part) for name, part in element.subtensors.items()} for element in bare.map_val]
    bare.ClearField("tensor_shape")
    bare.ClearField("map_val")
    # What neither knows, and what only the other one knows.
    bare.DiscardUnknownFields()
    # All other fields have the same numbers and types: by their bytes, and not value by value.
    tensor = hs.TensorProto.FromString(bare.SerializeToString())
    if shape is not None:
        tensor.tensor_shape.SetInParent()
        tensor.tensor_shape.dim.extend(hs.TensorShapeProto.Dim(size=size) for size in shape)
    for parts in elements:
        _add_map(tensor, parts)
    return tensor


def to_bare(tensor):
    """The 3.x form of a tensor; the given one is used up. Names of dimensions and the version number have no place there."""
    if tensor.dtype not in types_pb2.DataType.values():
        raise NotInDialect(dtypes.name(tensor.dtype))
    has_shape = tensor.HasField("tensor_shape") and not tensor.tensor_shape.unknown_rank
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    elements = [{name: to_bare(part) for name, part in element.subtensors.items()} for element in tensor.map_val]
    for field in ("tensor_shape", "map_val", "version_number", "variant_val"):
        tensor.ClearField(field)
    tensor.DiscardUnknownFields()
    bare = tensor_pb2.Tensor.FromString(tensor.SerializeToString())
    if has_shape:
        bare.tensor_shape.SetInParent()
        bare.tensor_shape.dims.extend(shape)
    for parts in elements:
        _add_map(bare, parts)
    return bare


def _add_map(tensor, parts):
    element = tensor.map_val.add()
    for name, part in parts.items():
        element.subtensors[name].CopyFrom(part)
