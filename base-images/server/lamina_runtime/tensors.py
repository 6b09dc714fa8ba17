"""TensorProto ⇄ NumPy array, by buffer, for every dtype that has values.

Both ways are read in which TensorFlow's clients write a tensor: tensor_content, the raw little-endian elements, and the list of the dtype's
family, which may stop early (its last element then stands for all that follow). Written is the list: the ancestor's clients read nothing else.

What must stay true: a tensor comes from a stranger. Nothing is allocated for a shape before `shape_of` found it to agree with what the message holds, and
to stay below MEMORY_BYTES_MAX. Arrays are ours to write to: functions change their inputs.
"""

import math

import numpy as np

import hydro_serving_grpc as hs
from lamina_runtime import dtypes, packed

# TensorFlow's own bound on dimensions.
RANK_MAX = 254
# As much as one message: a list may stop early, and a few bytes must not become gigabytes.
MEMORY_BYTES_MAX = 256 * 1024 * 1024
# What an element costs that is an object of its own: the reference to it.
_REFERENCE_BYTES = 8

# What the lists are made of, where that is not what the elements are.
_LIST_NUMBERS = {
    "int_val": np.dtype(np.int32), "half_val": np.dtype(np.int32), "scomplex_val": np.dtype(np.float32), "dcomplex_val": np.dtype(np.float64),
}


class TensorError(ValueError):
    """A tensor that is none, or a value that makes none; the text goes on after its name: "x" + " " + text."""


def dtype_of(tensor):
    if tensor.dtype not in dtypes.BY_NUMBER:
        raise TensorError("has no dtype" if tensor.dtype == 0 else f"has {dtypes.name(tensor.dtype)}, which no tensor can have")
    return dtypes.BY_NUMBER[tensor.dtype]


def shape_of(tensor, rank=None):
    """The shape, after a look at whether values and shape agree.

    A tensor without a shape, or of unknown rank, is a scalar to TensorFlow; who sends several values without one means a list, and `rank`, the contract's
    number of dimensions, says what one value is.
    """
    dtype = dtype_of(tensor)
    held = _held(tensor, dtype)
    if tensor.HasField("tensor_shape") and not tensor.tensor_shape.unknown_rank:
        shape = tuple(dim.size for dim in tensor.tensor_shape.dim)
    elif held == 1 and rank != 1 or held == 0 and rank == 0:
        shape = ()
    else:
        shape = (held,)
    if len(shape) > RANK_MAX or min(shape, default=0) < 0:
        raise TensorError(f"has the shape {show_shape(shape)}, which no tensor has")
    _check_count(tensor, dtype, shape, math.prod(shape), held)
    return shape


def to_array(tensor, rank=None, part_of=None):
    """The tensor as an array, of rank 0 for a scalar. Strings are an object array of bytes; bfloat16 is float32.

    A DT_MAP is an object array of dicts by name, of what `part_of` makes of the tensors in it (default: arrays too).
    """
    dtype = dtype_of(tensor)
    shape = shape_of(tensor, rank)
    if dtype.number == hs.DT_STRING:
        values = _objects(list(tensor.string_val))
    elif dtype.number == hs.DT_MAP:
        part_of = part_of or to_array
        values = _objects([{name: part_of(part) for name, part in sorted(element.subtensors.items())} for element in tensor.map_val])
    elif dtype.memory is None:
        raise TensorError(f"is {dtype.name}, which has no values that could be read")
    else:
        values = _numbers(tensor, dtype)
    elements = math.prod(shape)
    if len(values) < elements:
        # What TensorFlow takes where the list is empty.
        last = values[-1] if len(values) else b"" if dtype.number == hs.DT_STRING else 0
        values = np.concatenate([values, np.full(elements - len(values), last, values.dtype)])
    try:
        return values.reshape(shape)
    except ValueError:
        raise TensorError(f"has the shape {show_shape(shape)}, which NumPy does not take") from None


def from_array(array, number=None):
    """The tensor of an array, in list form. `number`: the dtype that it shall have, where arrays cannot say it (quantised kinds, bfloat16)."""
    tensor = hs.TensorProto()
    # Set even when empty: a scalar is a shape that is there.
    tensor.tensor_shape.SetInParent()
    for size in array.shape:
        tensor.tensor_shape.dim.add(size=size)
    if array.dtype.kind in "OSU":
        tensor.dtype = hs.DT_STRING
        tensor.string_val.extend(map(_string, array.ravel().tolist()))
        return tensor
    dtype = dtypes.BY_NUMBER.get(number) or dtype_of_array(array)
    tensor.dtype = dtype.number
    # In this machine's byte order from here on: `view` below is about memory.
    flat = np.ascontiguousarray(array).ravel().astype(dtype.array, copy=False)
    if dtype.number == hs.DT_BFLOAT16:
        flat = _to_bfloat16(flat)
    elif dtype.bits:
        flat = flat.view(np.uint16)
    elif dtype.numbers == 2:
        flat = flat.view(_LIST_NUMBERS[dtype.values])
    packed.write(tensor, dtype.values, flat)
    return tensor


def dtype_of_array(array):
    # The package ml_dtypes has a bfloat16 for NumPy, by this name.
    if array.dtype.name == "bfloat16":
        return dtypes.BY_NUMBER[hs.DT_BFLOAT16]
    dtype = dtypes.BY_ARRAY.get(array.dtype.newbyteorder("="))
    if dtype is None:
        raise TensorError(f"is an array of {array.dtype}, which no tensor can have")
    return dtype


def show_shape(shape):
    return "[" + ", ".join(map(str, shape[:10])) + (", …]" if len(shape) > 10 else "]")


def _held(tensor, dtype):
    """How many elements the message holds, wherever they are."""
    filled = [field.name for field, _ in tensor.ListFields() if field.name in dtypes.VALUE_FIELDS]
    # An early look, because a wrong list is the common mistake, and because only so is the right one found quickly.
    for name in filled:
        if name not in ("tensor_content", dtype.values):
            raise TensorError(f"is {dtype.name} and has its values in {name}, where {dtype.values or 'nothing'} is read")
    if "tensor_content" not in filled:
        return len(getattr(tensor, dtype.values)) // dtype.numbers if filled else 0
    if dtype.memory is None:
        raise TensorError(f"is {dtype.name} and has tensor_content, which is for numbers only")
    size_bytes = len(tensor.tensor_content)
    if size_bytes % dtype.memory.itemsize:
        raise TensorError(f"has {size_bytes} bytes of content, which are no whole elements of {dtype.name}")
    return size_bytes // dtype.memory.itemsize


def _check_count(tensor, dtype, shape, elements, held):
    if dtype.number in (hs.DT_VARIANT, hs.DT_RESOURCE):
        return
    exact = tensor.tensor_content or dtype.number == hs.DT_MAP
    if held > elements or (exact and held < elements):
        raise TensorError(f"has the shape {show_shape(shape)}, which is {elements} elements, and holds {held}")
    if elements * (dtype.memory.itemsize if dtype.memory else _REFERENCE_BYTES) > MEMORY_BYTES_MAX:
        raise TensorError(f"has the shape {show_shape(shape)}, which is too large: at most {MEMORY_BYTES_MAX} bytes are taken")


def _numbers(tensor, dtype):
    if tensor.tensor_content:
        if dtype.memory.kind == "b":
            return np.frombuffer(tensor.tensor_content, np.uint8) != 0
        values = np.frombuffer(tensor.tensor_content, dtype.memory)
        return _from_bfloat16(values) if dtype.number == hs.DT_BFLOAT16 else values.astype(dtype.array)
    listed = packed.read(tensor, dtype.values, _LIST_NUMBERS.get(dtype.values, dtype.memory))
    if dtype.numbers == 2:
        return listed[: len(listed) // 2 * 2].view(dtype.array)
    if dtype.bits:
        _check_range(listed, np.uint16, dtype)
        bits = listed.astype(np.uint16)
        return _from_bfloat16(bits) if dtype.number == hs.DT_BFLOAT16 else bits.view(dtype.array)
    if dtype.values == "int_val":
        _check_range(listed, dtype.array, dtype)
    return listed.astype(dtype.array, copy=False)


def _check_range(values, memory, dtype):
    limits = np.iinfo(memory)
    if len(values) and not (limits.min <= values.min() and values.max() <= limits.max):
        raise TensorError(f"is {dtype.name} and has values that are outside of {limits.min} to {limits.max}")


def _objects(values):
    # np.array would look into the values for more dimensions.
    array = np.empty(len(values), object)
    array[:] = values
    return array


def _string(value):
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes):
        return value
    raise TensorError(f"has an element that is {type(value).__name__}, and an array of objects is one of str or bytes")


def _from_bfloat16(bits):
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def _to_bfloat16(values):
    # To the nearest, ties to even; the addition would carry a NaN over into another number.
    bits = values.view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    return np.where(np.isnan(values), np.uint32(0x7FC0), rounded).astype(np.uint16)
