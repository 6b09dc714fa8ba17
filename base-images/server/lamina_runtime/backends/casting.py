"""One dtype where another was asked for: what fits is converted, what does not is said.

The contract is the user's word, and the model's own file may have a narrower or wider type for the same field. The ancestor's TensorFlow runtime converted, and
its users' contracts count on it. What must stay true: no number becomes another one silently, but for the precision that a narrower float has.
"""

import numpy as np

import hydro_serving_grpc as hs
from lamina_runtime import dtypes
from lamina_runtime.tensors import TensorError

# Those whose numbers mean what they say: a quantised integer means something to the model only.
NUMBERS = frozenset(
    (hs.DT_FLOAT, hs.DT_DOUBLE, hs.DT_HALF, hs.DT_BFLOAT16, hs.DT_INT8, hs.DT_INT16, hs.DT_INT32, hs.DT_INT64, hs.DT_UINT8, hs.DT_UINT16,
     hs.DT_UINT32, hs.DT_UINT64, hs.DT_COMPLEX64, hs.DT_COMPLEX128)
)


def cast(array, has, wanted):
    """An array of the dtype `has`, as lamina_runtime.tensors has it, as one of the dtype `wanted`."""
    if has == wanted:
        return array
    refused = TensorError(f"is {dtypes.name(has)}, and has to be {dtypes.name(wanted)}")
    if has not in NUMBERS or wanted not in NUMBERS:
        raise refused
    target = dtypes.BY_NUMBER[wanted].array
    if array.dtype.kind in "iu" and target.kind in "iu":
        limits = np.iinfo(target)
        if array.size and not limits.min <= int(array.min()) <= int(array.max()) <= limits.max:
            raise TensorError(f"is {dtypes.name(has)} with numbers that {dtypes.name(wanted)} cannot hold")
    elif not np.can_cast(array.dtype, target, "same_kind"):
        raise refused
    return array.astype(target, copy=False)
