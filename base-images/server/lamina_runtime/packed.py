"""Packed lists of numbers between a protobuf message and NumPy: whole arrays at a time where the bytes allow it.

A list of floats or bools has the same bytes in a message and in an array, so it is cut out of the message's bytes, or put in as bytes: protobuf's Python
lists cost tens of nanoseconds for each element, which is more than most models do. Integers are varints in a message, and going through
those lists is the quickest way there is for them.
"""

import numpy as np

_LENGTH_DELIMITED = 2
# More than the message has.
_FIELDS_MAX = 32


def read(message, field, dtype):
    """The numbers of one packed field, in an array of its own; `dtype` is that of the field's type."""
    if dtype.kind in "fb":
        number = message.DESCRIPTOR.fields_by_name[field].number
        payload = _payload(message.SerializeToString(), number)
        if payload is not None:
            return np.frombuffer(payload, dtype.newbyteorder("<")).astype(dtype.newbyteorder("="))
    values = getattr(message, field)
    return np.fromiter(values, dtype, len(values))


def write(message, field, array):
    """Appends the numbers of a one-dimensional array to a packed field."""
    if array.dtype.kind not in "fb":
        getattr(message, field).extend(array.tolist())
    elif len(array):
        number = message.DESCRIPTOR.fields_by_name[field].number
        payload = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        message.MergeFromString(b"".join((_varint(number << 3 | _LENGTH_DELIMITED), _varint(payload.nbytes), payload)))


def _payload(encoded, number):
    # A packed list is there once. Near the beginning, unless a stranger put what we do not know before it: then it is not looked for.
    view, position = memoryview(encoded), 0
    for _ in range(_FIELDS_MAX):
        if position >= len(view):
            break
        tag, position = _read_varint(view, position)
        kind = tag & 7
        if kind == 0:
            _, position = _read_varint(view, position)
        elif kind == _LENGTH_DELIMITED:
            length, position = _read_varint(view, position)
            if tag >> 3 == number:
                return view[position : position + length]
            position += length
        else:
            break
    return None


def _varint(value):
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _read_varint(view, position):
    value = shift = 0
    while True:
        byte = view[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position
