"""Tensors as JSON, the form of the ancestor's HTTP gateway and of `hs contract sample --form json`: values by the names of the fields.

Values are nested lists by shape; a scalar is a bare value. What JSON has no number for are the strings that protobuf's own JSON has (`NaN`, `Infinity`,
`-Infinity`), complex numbers are pairs, bytes that are no text are {"b64": …}, a map is an object. What must stay true: what is written here is read
here, and is what src/contract/tensor.rs writes.
"""

import base64
import json
import math

import numpy as np

import hydro_serving_grpc as hs
from hydro_serving_grpc.monitoring.data_profile_types_pb2 import DataProfileType
from lamina_runtime import dtypes, tensors
from lamina_runtime.tensors import TensorError

# The brackets, braces and commas of a document: each stands for objects of a hundred bytes or so in memory. Twice what a picture of 1024 by 1024 in three
# colours has; gRPC has no such limit.
MARKS_MAX = 8 * 1024 * 1024
# Texts of numbers, so many at a time: NumPy gives each the room of the longest.
_PIECE = 1 << 16


class TooLarge(Exception):
    """A document with more values than are taken."""


def loads(body):
    """The JSON object in these bytes."""
    if sum(map(body.count, (b"[", b"{", b","))) > MARKS_MAX:
        raise TooLarge(f"the document has more than {MARKS_MAX} values; gRPC takes larger ones")
    try:
        # Python's parser takes NaN and Infinity bare, which is no JSON.
        document = json.loads(body, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("the body nests too deeply") from None
    except ValueError as error:
        raise ValueError(f"the body is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise ValueError("the body has to be a JSON object: values by the names of the inputs")
    return document


def _no_constant(name):
    raise ValueError(f'{name} is no JSON; write it as a string, "{name}"')


def dumps(response):
    """The outputs of a PredictResponse."""
    return json.dumps({name: of_tensor(tensor) for name, tensor in sorted(response.outputs.items())}, ensure_ascii=False, allow_nan=False).encode()


def of_tensor(tensor):
    array = tensors.to_array(tensor, part_of=of_tensor)
    if array.size > MARKS_MAX:
        raise TensorError(f"has {array.size} elements, more than are written as JSON; gRPC has no such limit")
    if tensor.dtype == hs.DT_STRING:
        return _map_elements(_text, array)
    if array.dtype.kind == "c":
        # Pairs are one more dimension.
        parts = array.dtype.type(0).real.dtype
        array = np.ascontiguousarray(array).view(parts).reshape(array.shape + (2,))
    if array.dtype.kind != "f":
        return array.tolist()
    if array.dtype == np.float32:
        array = _shortest(array)
    if np.isfinite(array).all():
        return array.tolist()
    return _map_elements(_number, array)


def _map_elements(function, array):
    flat = np.empty(array.size, object)
    flat[:] = [function(element) for element in array.ravel().tolist()]
    return flat.reshape(array.shape).tolist()


def _shortest(array):
    """The same numbers with the digits that they have as floats: 0.1, not 0.10000000149011612."""
    flat, out = array.ravel(), np.empty(array.size)
    for start in range(0, array.size, _PIECE):
        out[start : start + _PIECE] = flat[start : start + _PIECE].astype(str).astype(float)
    return out.reshape(array.shape)


def _number(value):
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _text(value):
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(value).decode()}


def of_contract(contract):
    """The contract, as `hs contract show --output json` has its signatures."""
    # Both spellings of 12 are in the enumeration; the right one is printed.
    profiles = {number: name for name, number in DataProfileType.items() if name != "ORIDNAL"}

    def field(declared):
        if declared.unknown_rank:
            shape = {"unknown_rank": True}
        elif declared.shape is None:
            shape = None
        else:
            shape = {"dims": list(declared.shape)}
            if any(declared.dimension_names):
                shape["names"] = list(declared.dimension_names)
        if declared.subfields:
            kind = {"subfields": [field(subfield) for subfield in declared.subfields]}
        else:
            kind = {"dtype": dtypes.name(declared.dtype) if declared.dtype else None}
        return {"name": declared.name, **kind, "shape": shape, "profile": profiles.get(declared.profile, "NONE")}

    signatures = [
        {"name": declared.name, "inputs": [field(one) for one in declared.inputs], "outputs": [field(one) for one in declared.outputs]}
        for declared in contract.signatures
    ]
    return {"model_name": contract.model_name, "signatures": signatures}
