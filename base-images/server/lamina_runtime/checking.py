"""Whether tensors fit a signature: names, dtypes, shapes, and that each tensor is one at all.

It compares and changes one thing only: a tensor that came without a shape gets the one that its values have, so that every backend sees a whole
tensor. What must stay true: a complaint names the field, what the contract says and what came instead, in that order. What the contract leaves open is not
compared: a shape that is not stated or of unknown rank, a length of -1, DT_ANY, a field without a dtype.
"""

import hydro_serving_grpc as hs
from lamina_runtime import dtypes, tensors

# A message that lists all of a hundred fields helps nobody.
_NAMES_SHOWN_MAX = 10


class Unfit(Exception):
    """What does not fit; the text is a whole clause."""


def names(fields, given):
    """The given names are those of the fields, all of them and no others."""
    declared = [field.name for field in fields]
    missing = [name for name in declared if name not in given]
    unknown = sorted(name for name in given if name not in declared)
    complaints = []
    if missing:
        complaints.append("missing: " + _shown(missing))
    if unknown:
        complaints.append("not in the contract: " + _shown(unknown))
    if complaints:
        raise Unfit("; ".join(complaints) + f" (the contract has: {_shown(declared) or 'none'})")


def whole(fields, given):
    """Names, dtypes and shapes; `given` is a map of TensorProto."""
    names(fields, given)
    for field in fields:
        _tensor(field, given[field.name], field.name)


def _tensor(field, tensor, place):
    expected = hs.DT_MAP if field.subfields else field.dtype
    if expected not in (0, dtypes.DT_ANY, tensor.dtype):
        raise Unfit(f"{place} has to be {dtypes.name(expected)}, and is {dtypes.name(tensor.dtype)}")
    try:
        shape = tensors.shape_of(tensor, None if field.shape is None else len(field.shape))
    except tensors.TensorError as error:
        raise Unfit(f"{place} {error}") from None
    if field.shape is not None and not _fits(field.shape, shape):
        raise Unfit(f"{place} has to have the shape {tensors.show_shape(field.shape)}, and has {tensors.show_shape(shape)}")
    if not tensor.HasField("tensor_shape") or tensor.tensor_shape.unknown_rank:
        tensor.tensor_shape.SetInParent()
        tensor.tensor_shape.unknown_rank = False
        tensor.tensor_shape.dim.extend(hs.TensorShapeProto.Dim(size=size) for size in shape)
    if field.subfields:
        for index, element in enumerate(tensor.map_val):
            within = f"{place}[{index}]" if shape else place
            try:
                names(field.subfields, element.subtensors)
            except Unfit as unfit:
                raise Unfit(f"{within}: {unfit}") from None
            for subfield in field.subfields:
                _tensor(subfield, element.subtensors[subfield.name], f"{within}.{subfield.name}")


def _fits(expected, shape):
    return len(expected) == len(shape) and all(size in (-1, length) for size, length in zip(expected, shape))


def _shown(listed):
    more = len(listed) - _NAMES_SHOWN_MAX
    return ", ".join(listed[:_NAMES_SHOWN_MAX]) + (f" and {more} more" if more > 0 else "")
