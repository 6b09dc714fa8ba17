"""The value of a field, as a message has it and as TensorFlow's session takes and gives it.

What must stay true: the message's buffer becomes the session's array with no element touched by Python, but for strings, which Python holds one by one. Parts
of a composite tensor are a DT_MAP, named by position, as the contract has them; a sparse tensor is the dense one that it stands for.
"""

import grpc
import ml_dtypes
import numpy as np
import tensorflow as tf

import hydro_serving_grpc as hs
from lamina_runtime import tensors
from lamina_runtime.backend import Failure
from lamina_runtime.backends.casting import cast


def fed(field, message):
    """The arrays for the tensors of a placed field."""
    try:
        return _fed(field, message)
    except tensors.TensorError as error:
        raise Failure(grpc.StatusCode.INVALID_ARGUMENT, f"input {field.name!r} {error}") from None


def fetched(field, arrays):
    """The message of a placed field; takes its tensors' arrays away from the front of the list."""
    if field.parts:
        element = hs.MapTensorData(subtensors={part.name: fetched(part, arrays) for part in field.parts})
        return hs.TensorProto(dtype=hs.DT_MAP, tensor_shape=hs.TensorShapeProto(), map_val=[element])
    array = arrays.pop(0)
    if field.is_sparse:
        array = _dense(field.dtype, array, arrays.pop(0), arrays.pop(0))
    array = np.asarray(array)
    if field.dtype == hs.DT_BFLOAT16:
        array = array.astype(np.float32)
    elif array.dtype.fields:
        # A quantised integer is a record of one number.
        array = array[array.dtype.names[0]]
    dtype = field.declared_dtype or field.dtype
    return tensors.from_array(cast(array, field.dtype, dtype), dtype)


def _fed(field, message):
    if field.parts:
        if len(message.map_val) != 1:
            raise tensors.TensorError(f"has {len(message.map_val)} elements of map_val, and has one, with its parts by name")
        given = message.map_val[0].subtensors
        lacking = [part.name for part in field.parts if part.name not in given]
        if lacking:
            raise tensors.TensorError(f"lacks its parts {', '.join(lacking)}")
        return [array for part in field.parts for array in _fed(part, given[part.name])]
    array = cast(tensors.to_array(message, field.rank), message.dtype, field.dtype)
    if not field.is_sparse:
        return [_native(field.dtype, array)]
    # A sparse tensor is what of the dense one is not zero, in the order of its indices.
    present = array != (b"" if field.dtype == hs.DT_STRING else 0)
    kept, indices = array[present], np.argwhere(present)
    return [_native(field.dtype, kept), indices.astype(np.int64), np.array(array.shape, dtype=np.int64)]


def _dense(dtype, values, indices, shape):
    values = np.asarray(values)
    dense = np.full(tuple(shape), b"", dtype=object) if dtype == hs.DT_STRING else np.zeros(tuple(shape), dtype=values.dtype)
    dense[tuple(np.asarray(indices).T)] = values
    return dense


def _native(dtype, array):
    """From the array as our tensors have it to the one that TensorFlow has for the dtype: a bfloat16, or a record for a quantised integer."""
    if dtype == hs.DT_STRING:
        return array
    if dtype == hs.DT_BFLOAT16:
        return array.astype(ml_dtypes.bfloat16)
    native = np.dtype(tf.dtypes.as_dtype(dtype).as_numpy_dtype)
    return array.view(native) if native.fields else array
