"""JSON values → TensorProto, by the contract's field: the way back of json_form.py.

What must stay true: a value that the field cannot hold exactly is refused with its place ("x[0][3]"), never rounded into it: a fraction in an integer, an
integer that is out of range, a boolean where a number is wanted. How deep values nest is the shape; an empty list says nothing of the dimensions
within, and takes the contract's.
"""

import base64
import binascii

import numpy as np

import hydro_serving_grpc as hs
from lamina_runtime import dtypes, tensors

_NUMBERS_BY_NAME = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


class Unreadable(Exception):
    """A value that makes no tensor of its field; the text begins with its place."""


def tensor_of(value, field, place=None):
    place = place or field.name
    if field.subfields:
        return _map_of(value, field, place)
    flat, shape = _flattened(value, place, None if field.shape is None else len(field.shape), field.dtype)
    if field.shape is not None and 0 in shape and len(shape) < len(field.shape):
        shape += tuple(max(size, 0) for size in field.shape[len(shape) :])
    number = field.dtype if field.dtype not in (0, dtypes.DT_ANY) else _guessed(flat, place)
    dtype = dtypes.BY_NUMBER.get(number)
    if number == hs.DT_STRING:
        array = np.empty(len(flat), object)
        array[:] = [_bytes(element, place, shape, index) for index, element in enumerate(flat)]
    elif dtype is None or dtype.memory is None:
        raise Unreadable(f"{place} is {dtypes.name(number)}, of which nobody can write values as JSON")
    else:
        array = _numbers(flat, dtype, place, shape)
    return tensors.from_array(array.reshape(shape), number)


def _flattened(value, place, rank, number):
    """The elements in row-major order, and the shape. A list level at a time: no recursion that a document could deepen."""
    level, shape = [value], []
    while any(isinstance(element, list) for element in level):
        if number in (hs.DT_COMPLEX64, hs.DT_COMPLEX128) and _are_pairs(level, shape, rank):
            break
        if not all(isinstance(element, list) for element in level):
            raise Unreadable(f"{place} has lists and values beside each other, {len(shape)} levels deep")
        lengths = set(map(len, level))
        if len(lengths) > 1:
            raise Unreadable(f"{place} has lists of {min(lengths)} and of {max(lengths)} elements beside each other, {len(shape)} levels deep")
        shape.append(lengths.pop())
        if len(shape) > 32:
            raise Unreadable(f"{place} has more than 32 dimensions")
        level = [element for inner in level for element in inner]
    return level, tuple(shape)


def _are_pairs(level, shape, rank):
    """Whether these lists are complex numbers, and no dimension: by the contract's rank, else by what is in them."""
    if rank is not None:
        return len(shape) == rank
    return all(isinstance(element, list) and len(element) == 2 and not isinstance(element[0], list) for element in level)


def _guessed(flat, place):
    """The dtype where the contract leaves it open."""
    kinds = set(map(type, flat))
    for number, expected in ((hs.DT_BOOL, {bool}), (hs.DT_INT64, {int}), (hs.DT_DOUBLE, {int, float}), (hs.DT_STRING, {str, dict})):
        if kinds and kinds <= expected:
            return number
    if not kinds:
        return hs.DT_DOUBLE
    raise Unreadable(f"{place} has values of different kinds")


def _numbers(flat, dtype, place, shape):
    wanted = dtype.array
    kinds = set(map(type, flat))
    if wanted.kind == "b":
        _all(flat, lambda element: type(element) is bool, "true or false", place, shape)
    elif wanted.kind == "c":
        _all(flat, _is_pair, "a pair of numbers", place, shape)
        flat = [complex(_float(real), _float(imaginary)) for real, imaginary in flat]
    elif wanted.kind == "f":
        if not kinds <= {int, float}:
            _all(flat, _is_number, "a number", place, shape)
            flat = [_float(element) for element in flat]
    else:
        limits = np.iinfo(wanted)
        if not kinds <= {int}:
            _all(flat, lambda element: type(element) is int or type(element) is float and element.is_integer(), "an integer", place, shape)
            flat = list(map(int, flat))
        if flat and not limits.min <= min(flat) <= max(flat) <= limits.max:
            _all(flat, lambda element: limits.min <= element <= limits.max, f"an integer from {limits.min} to {limits.max}", place, shape)
    try:
        return np.array(flat, wanted)
    except OverflowError:
        raise Unreadable(f"{place} has a number that is too large for {dtype.name}") from None


def _is_number(value):
    return type(value) in (int, float) or type(value) is str and value in _NUMBERS_BY_NAME


def _is_pair(value):
    return isinstance(value, list) and len(value) == 2 and all(map(_is_number, value))


def _float(value):
    return _NUMBERS_BY_NAME[value] if isinstance(value, str) else value


def _bytes(value, place, shape, index):
    if isinstance(value, str):
        try:
            return value.encode()
        except UnicodeEncodeError:
            raise Unreadable(f"{_place(place, shape, index)} has half of a surrogate pair, which is no text") from None
    if isinstance(value, dict) and set(value) == {"b64"} and isinstance(value["b64"], str):
        try:
            return base64.b64decode(value["b64"], validate=True)
        except (binascii.Error, ValueError):
            raise Unreadable(f"{_place(place, shape, index)} has a b64 that is no base64") from None
    raise Unreadable(f'{_place(place, shape, index)} has to be a string or {{"b64": …}}, and is {_kind(value)}')


def _map_of(value, field, place):
    flat, shape = _flattened(value, place, None, hs.DT_MAP)
    tensor = hs.TensorProto(dtype=hs.DT_MAP)
    tensor.tensor_shape.SetInParent()
    tensor.tensor_shape.dim.extend(hs.TensorShapeProto.Dim(size=size) for size in shape)
    declared = {subfield.name: subfield for subfield in field.subfields}
    for index, element in enumerate(flat):
        within = _place(place, shape, index)
        if not isinstance(element, dict):
            raise Unreadable(f"{within} has to be an object, and is {_kind(element)}")
        unknown = sorted(set(element) - set(declared))
        if unknown:
            raise Unreadable(f"{within} has {unknown[0]!r}, which is not in the contract")
        parts = tensor.map_val.add().subtensors
        for name, part in element.items():
            parts[name].CopyFrom(tensor_of(part, declared[name], f"{within}.{name}"))
    return tensor


def _all(flat, is_one, expected, place, shape):
    for index, element in enumerate(flat):
        if not is_one(element):
            raise Unreadable(f"{_place(place, shape, index)} has to be {expected}, and is {_kind(element)}")


def _place(place, shape, index):
    """Where the element with this number in row-major order is."""
    return place + "".join(f"[{position}]" for position in np.unravel_index(index, shape))


def _kind(value):
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)[:30]
    return {str: "a string", list: "a list", dict: "an object"}[type(value)]
