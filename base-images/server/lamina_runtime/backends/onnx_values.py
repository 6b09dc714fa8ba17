"""Values of ONNX's types as messages, and back.

A tensor is a tensor. A map is an element of DT_MAP, its keys as text and its values scalars; a sequence of maps is a list of such elements, which is what a
scikit-learn classifier gives for its probabilities (ZipMap). A sequence of tensors is one tensor with a dimension more, in front. An optional is what it holds. That
is how contracts have them (src/contract/onnx_type.rs). What must stay true: what a stranger sends becomes the type that the model has, or a TensorError.
"""

import re
from dataclasses import dataclass
from typing import Optional

import numpy as np
import onnxruntime

import hydro_serving_grpc as hs
from lamina_runtime import dtypes, tensors
from lamina_runtime.backends.casting import cast
from lamina_runtime.tensors import TensorError

# ONNX Runtime's names of element types.
ELEMENTS = {
    "float": hs.DT_FLOAT, "double": hs.DT_DOUBLE, "float16": hs.DT_HALF, "bfloat16": hs.DT_BFLOAT16, "int8": hs.DT_INT8, "int16": hs.DT_INT16,
    "int32": hs.DT_INT32, "int64": hs.DT_INT64, "uint8": hs.DT_UINT8, "uint16": hs.DT_UINT16, "uint32": hs.DT_UINT32, "uint64": hs.DT_UINT64,
    "bool": hs.DT_BOOL, "string": hs.DT_STRING,
}

# onnx.proto's number of bfloat16.
ONNX_BFLOAT16 = 16


@dataclass(frozen=True)
class Value:
    """A field of the contract, and what the model has for it."""

    name: str
    # What it is called in the session.
    source: str
    # Of the tensor, or of a map's values.
    dtype: int
    # What the contract says; 0 where it says nothing.
    declared_dtype: int
    rank: Optional[int] = None
    # "int64" or "string" where it is a map.
    key: Optional[str] = None
    in_sequence: bool = False


def wide(name):
    """The name of the float output that stands for a bfloat16 one."""
    return f"{name}::as_float"


def place(field, onnx_type):
    """None: a type that no message can carry."""
    inner = onnx_type
    while inner.startswith("optional("):
        inner = inner[len("optional(") : -1]
    in_sequence = inner.startswith("seq(")
    if in_sequence:
        inner = inner[len("seq(") : -1]
    mapped = re.fullmatch(r"map\((int64|string),tensor\((\w+)\)\)", inner)
    if mapped and mapped[2] in ELEMENTS:
        return Value(field.name, field.name, ELEMENTS[mapped[2]], 0, None, mapped[1], in_sequence)
    plain = re.fullmatch(r"tensor\((\w+)\)", inner)
    if not plain or plain[1] not in ELEMENTS:
        return None
    rank = None if field.shape is None else len(field.shape)
    source = wide(field.name) if onnx_type == "tensor(bfloat16)" else field.name
    return Value(field.name, source, ELEMENTS[plain[1]], field.dtype, rank, None, in_sequence)


def fed(value, message):
    """What the session takes."""
    if value.key:
        return _maps(value, message)
    array = cast(tensors.to_array(message, value.rank), message.dtype, value.dtype)
    if value.dtype == hs.DT_STRING:
        array = _texts(array)
    if not value.in_sequence:
        return _native(value.dtype, array)
    if array.ndim == 0:
        raise TensorError("is a scalar, and has to be a sequence of tensors: one tensor with a dimension more, in front")
    return [_native(value.dtype, np.ascontiguousarray(element).reshape(array.shape[1:])) for element in array]


def fetched(value, result):
    """The message of what the session gave."""
    if value.key:
        maps = result if value.in_sequence else [result]
        shape = hs.TensorShapeProto(dim=[hs.TensorShapeProto.Dim(size=len(maps))] if value.in_sequence else [])
        elements = [hs.MapTensorData(subtensors={str(key): _scalar(value.dtype, item) for key, item in entry.items()}) for entry in maps]
        return hs.TensorProto(dtype=hs.DT_MAP, tensor_shape=shape, map_val=elements)
    if value.in_sequence:
        if len({element.shape for element in result}) > 1:
            raise TensorError("is a sequence of tensors of different shapes, which one tensor cannot be")
        memory = object if value.dtype == hs.DT_STRING else dtypes.BY_NUMBER[value.dtype].array
        result = np.stack(result) if result else np.empty((0,), memory)
    array = np.asarray(result)
    dtype = value.declared_dtype or value.dtype
    return tensors.from_array(cast(array, value.dtype, dtype), dtype)


def _maps(value, message):
    if message.dtype != hs.DT_MAP:
        raise TensorError(f"is {dtypes.name(message.dtype)}, and has to be DT_MAP")
    if value.in_sequence:
        return [_map(value, element) for element in message.map_val]
    if len(message.map_val) != 1:
        raise TensorError(f"has {len(message.map_val)} maps in map_val, and has to have one")
    return _map(value, message.map_val[0])


def _map(value, element):
    entries = {}
    for key, tensor in sorted(element.subtensors.items()):
        array = cast(tensors.to_array(tensor, 0), tensor.dtype, value.dtype)
        if array.size != 1:
            raise TensorError(f"has {array.size} values for the key {key!r}, and a map has one for each")
        entries[_key(value.key, key)] = _texts(array).item() if value.dtype == hs.DT_STRING else array.item()
    return entries


def _key(kind, text):
    if kind == "string":
        return text
    try:
        number = int(text)
    except ValueError:
        number = None
    if number is None or not -(1 << 63) <= number < 1 << 63:
        raise TensorError(f"has the key {text!r}, and the model's keys are whole numbers of 64 bits")
    return number


def _scalar(dtype, item):
    memory = object if dtype == hs.DT_STRING else dtypes.BY_NUMBER[dtype].array
    return tensors.from_array(np.array(item, dtype=memory), dtype)


def _texts(array):
    # ONNX's strings are text, ours are bytes.
    texts = np.empty(array.shape, dtype=object)
    try:
        texts.flat[:] = [element.decode() for element in array.flat]
    except UnicodeDecodeError:
        raise TensorError("has a string that is not UTF-8, and the strings of ONNX are text") from None
    return texts


def _native(dtype, array):
    if dtype != hs.DT_BFLOAT16:
        return array
    # Its 16 bits are the upper half of the float that it is here.
    bits = (np.ascontiguousarray(array, dtype=np.float32).view(np.uint32) >> np.uint32(16)).astype(np.uint16)
    return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(bits, ONNX_BFLOAT16)
