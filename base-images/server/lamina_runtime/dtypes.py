"""What each element type of a tensor is in memory, and in which list of the message its values travel.

Names and numbers are those of proto/hydro_serving_grpc/tf/types.proto, and DT_ANY of the 3.x releases. What must stay true: a number that is not
here is refused, never taken for the nearest thing.
"""

from dataclasses import dataclass
from typing import Optional

import numpy as np

import hydro_serving_grpc as hs

# Of the 3.x releases only: a contract may say it, a tensor cannot have it. TensorFlow's 24 is another type.
DT_ANY = 24


@dataclass(frozen=True)
class Dtype:
    number: int
    name: str
    # The list of TensorProto with this type's values; None where the type has none that could be shown.
    values: Optional[str]
    # One element as numbers on the wire, little-endian; None for what is not numbers.
    memory: Optional[np.dtype] = None
    # How many numbers of the list are one element.
    numbers: int = 1
    # The list's numbers are the bits of the elements, not their values.
    bits: bool = False

    @property
    def array(self):
        """The element type that a function gets and gives, in this machine's byte order. NumPy has no bfloat16: it is a float32 there."""
        if self.number == hs.DT_BFLOAT16:
            return np.dtype(np.float32)
        return self.memory.newbyteorder("=")


def _numbers(name, memory, values, **more):
    return Dtype(hs.DataType.Value(name), name, values, np.dtype(memory), **more)


# TensorFlow's quantised kinds are plain integers in memory: what they stand for is the model's business.
_ALL = [
    _numbers("DT_FLOAT", "<f4", "float_val"),
    _numbers("DT_DOUBLE", "<f8", "double_val"),
    _numbers("DT_INT32", "<i4", "int_val"),
    _numbers("DT_UINT8", "u1", "int_val"),
    _numbers("DT_INT16", "<i2", "int_val"),
    _numbers("DT_INT8", "i1", "int_val"),
    _numbers("DT_COMPLEX64", "<c8", "scomplex_val", numbers=2),
    _numbers("DT_INT64", "<i8", "int64_val"),
    _numbers("DT_BOOL", "?", "bool_val"),
    _numbers("DT_QINT8", "i1", "int_val"),
    _numbers("DT_QUINT8", "u1", "int_val"),
    _numbers("DT_QINT32", "<i4", "int_val"),
    _numbers("DT_BFLOAT16", "<u2", "half_val", bits=True),
    _numbers("DT_QINT16", "<i2", "int_val"),
    _numbers("DT_QUINT16", "<u2", "int_val"),
    _numbers("DT_UINT16", "<u2", "int_val"),
    _numbers("DT_COMPLEX128", "<c16", "dcomplex_val", numbers=2),
    _numbers("DT_HALF", "<f2", "half_val", bits=True),
    _numbers("DT_UINT32", "<u4", "uint32_val"),
    _numbers("DT_UINT64", "<u8", "uint64_val"),
    Dtype(hs.DT_STRING, "DT_STRING", "string_val"),
    Dtype(hs.DT_MAP, "DT_MAP", "map_val"),
    Dtype(hs.DT_VARIANT, "DT_VARIANT", "variant_val"),
    Dtype(hs.DT_RESOURCE, "DT_RESOURCE", None),
]

BY_NUMBER = {dtype.number: dtype for dtype in _ALL}

# The first of those with the same memory: an array does not say that it is quantised.
BY_ARRAY = {dtype.array: dtype for dtype in reversed(_ALL) if dtype.memory is not None and dtype.number != hs.DT_BFLOAT16}

# All fields of TensorProto that hold values.
VALUE_FIELDS = frozenset(dtype.values for dtype in _ALL if dtype.values) | {"tensor_content"}


def name(number):
    """Its name, for messages."""
    if number == 0:
        return "no dtype"
    if number == DT_ANY:
        return "DT_ANY"
    return BY_NUMBER[number].name if number in BY_NUMBER else f"dtype {number}"
