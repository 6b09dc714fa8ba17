"""TensorProto ⇄ what a function of the numpy calling convention takes and gives.

In: an array; a NumPy scalar where the shape is a scalar's; text where strings are text; a dict, or an array of dicts, for a map. Out: those, and what
Python has for them: numbers, str, bytes, lists. What must stay true: an array keeps its dtype, so that a model that computes in another one than its
contract says is told; what has no dtype of its own takes the contract's.
"""

import numpy as np

import hydro_serving_grpc as hs
from lamina_runtime import dtypes, tensors
from lamina_runtime.tensors import TensorError

# NumPy gives every text of an array the room of the longest. Beyond this much, texts are objects.
_TEXT_BYTES_MAX = 16 * 1024 * 1024
_MAP_DEPTH_MAX = 48


def without_array(field):
    """The first dtype of a field, or of what is in it, that arrays cannot have; 0 where there is none."""
    if field.subfields:
        return next(filter(None, map(without_array, field.subfields)), 0)
    return field.dtype if field.dtype in (hs.DT_VARIANT, hs.DT_RESOURCE) else 0


def value_of(tensor, field=None):
    """The array or scalar of a tensor. `field` is the contract's; it says the rank where a tensor came without a shape."""
    rank = None if field is None or field.shape is None else len(field.shape)
    array = tensors.to_array(tensor, rank, value_of)
    if tensor.dtype == hs.DT_STRING:
        array = _texts(array)
    return array if array.ndim else array[()]


def tensor_of(value, field=None):
    """The tensor of what a function returned for a field; None: an output that the contract does not have."""
    return _tensor_of(value, field, 0)


def _tensor_of(value, field, depth):
    if isinstance(value, hs.TensorProto):
        return value
    if value is None:
        raise TensorError("is None")
    if depth > _MAP_DEPTH_MAX:
        raise TensorError("has maps within maps without end")
    number = field.dtype if field is not None else 0
    if isinstance(value, dict) or (isinstance(value, (list, tuple)) and any(isinstance(element, dict) for element in value)):
        return _map_of(np.array(value, object), field, depth)
    array = _array_of(value, number)
    if array.dtype == object and any(isinstance(element, dict) for element in array.ravel()):
        return _map_of(array, field, depth)
    return tensors.from_array(array, _as_declared(array, number))


def _array_of(value, number):
    if isinstance(value, (np.ndarray, np.generic)):
        return np.asarray(value)
    if isinstance(value, (str, bytes)):
        array = np.empty((), object)
        array[()] = value
        return array
    try:
        array = np.asarray(value)
    except UnicodeError:
        # Text and bytes beside each other.
        return np.asarray(value, object)
    except ValueError:
        raise TensorError("is a list whose rows have different lengths") from None
    if array.dtype.kind in "SU":
        # NumPy's own kinds of text cut zeros at the end off.
        return np.asarray(value, object)
    declared = dtypes.BY_NUMBER.get(number)
    # What came without a dtype takes the contract's, where that loses nothing but digits.
    if declared is not None and declared.memory is not None and _is_like(array, declared.array):
        return array.astype(declared.array)
    return array


def _is_like(array, wanted):
    if not array.size:
        return True
    if array.dtype.kind in "iu" and wanted.kind in "iu":
        limits = np.iinfo(wanted)
        if not limits.min <= int(array.min()) <= int(array.max()) <= limits.max:
            raise TensorError(f"has values that are outside of {limits.min} to {limits.max}")
        return True
    return array.dtype.kind in {"f": "iuf", "c": "iufc"}.get(wanted.kind, "")


def _as_declared(array, number):
    """The declared dtype, where an array in its memory cannot say it: quantised kinds, bfloat16."""
    declared = dtypes.BY_NUMBER.get(number)
    return number if declared is not None and declared.memory is not None and declared.array == array.dtype.newbyteorder("=") else None


def _map_of(array, field, depth):
    tensor = hs.TensorProto(dtype=hs.DT_MAP)
    tensor.tensor_shape.SetInParent()
    tensor.tensor_shape.dim.extend(hs.TensorShapeProto.Dim(size=size) for size in array.shape)
    subfields = {subfield.name: subfield for subfield in field.subfields} if field is not None else {}
    for element in array.ravel():
        if not isinstance(element, dict):
            raise TensorError(f"is a list of dicts and of {type(element).__name__}")
        parts = tensor.map_val.add().subtensors
        for name, part in element.items():
            if not isinstance(name, str):
                raise TensorError(f"is a dict with the key {name!r}, and its keys have to be names")
            try:
                parts[name].CopyFrom(_tensor_of(part, subfields.get(name), depth + 1))
            except TensorError as error:
                raise TensorError(f"has {name}, which {error}") from None
    return tensor


def _texts(array):
    """Text where all elements are UTF-8, else bytes, all of them."""
    try:
        texts = [element.decode() for element in array.ravel()]
    except UnicodeDecodeError:
        return array
    longest = max(map(len, texts), default=0)
    # NumPy's own text cuts zeros at the end off.
    if longest * len(texts) * 4 > _TEXT_BYTES_MAX or any(text.endswith("\0") for text in texts):
        flat = np.empty(len(texts), object)
        flat[:] = texts
        return flat.reshape(array.shape)
    return np.array(texts, f"U{max(longest, 1)}").reshape(array.shape)
