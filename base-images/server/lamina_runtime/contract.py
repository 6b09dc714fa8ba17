"""The contract of the image, in any of its three dialects, as plain values that every backend reads.

Not here: whether a request fits it (checking.py). What must stay true: dialects are told apart as `hs` tells them (src/contract/wire.rs): a
message with outputs, field 3, at its top level is a bare signature (v3), all else a ModelContract (v1, and v2 with one signature). A contract is not
judged: an old image may hold what would not be built today.
"""

from dataclasses import dataclass
from typing import Optional, Tuple

from google.protobuf.message import DecodeError

import hydro_serving_grpc as hs
from lamina_runtime.settings import Refused

# As in wire.rs: real ones are below a KiB.
CONTRACT_BYTES_MAX = 1 << 20


@dataclass(frozen=True)
class Field:
    name: str
    # A number of DataType. 0 where the contract says none; subfields are there then, or nothing is stated.
    dtype: int
    # None: any shape, or an unknown rank. A size of -1: any length. (): a scalar.
    shape: Optional[Tuple[int, ...]]
    subfields: Tuple["Field", ...] = ()
    # These are for showing the contract.
    profile: int = 0
    unknown_rank: bool = False
    dimension_names: Tuple[str, ...] = ()


@dataclass(frozen=True)
class Declared:
    """A signature as the contract has it."""

    name: str
    inputs: Tuple[Field, ...]
    outputs: Tuple[Field, ...]


@dataclass(frozen=True)
class Contract:
    # Empty in v3, which has no place for it.
    model_name: str
    signatures: Tuple[Declared, ...]
    dialect: str
    # Where it was read, for messages.
    path: str


def read(path):
    try:
        with open(path, "rb") as file:
            encoded = file.read(CONTRACT_BYTES_MAX + 1)
    except FileNotFoundError:
        raise Refused(f"there is no contract at {path}: this image holds no model, or MODEL_DIR points elsewhere") from None
    except OSError as error:
        raise Refused(f"the contract {path} cannot be read: {error.strerror}") from None
    if len(encoded) > CONTRACT_BYTES_MAX:
        raise Refused(f"{path} is no contract: it has more than {CONTRACT_BYTES_MAX} bytes")
    contract = decode(encoded, path)
    _check_names(contract)
    return contract


def decode(encoded, path):
    bare = _is_bare_signature(encoded)
    try:
        if bare:
            # Imported for images that need it only.
            from hydro_serving_grpc.serving.contract.signature_pb2 import ModelSignature

            return Contract("", (_declared(ModelSignature.FromString(encoded), _bare_field),), "v3", path)
        message = hs.ModelContract.FromString(encoded)
    except DecodeError:
        kind = "ModelSignature" if bare else "ModelContract"
        raise Refused(f"{path} is not a contract: its bytes are no {kind} message") from None
    signatures = tuple(_declared(signature, _field) for signature in message.signatures)
    profiled = len(signatures) == 1 and any(_has_profile(field) for field in signatures[0].inputs + signatures[0].outputs)
    return Contract(message.model_name, signatures, "v2" if profiled else "v1", path)


def _declared(signature, field):
    return Declared(signature.signature_name, tuple(map(field, signature.inputs)), tuple(map(field, signature.outputs)))


# Recursions below are as deep as the message, and protobuf stops at 100 levels.
def _field(message):
    stated = message.HasField("shape")
    unknown_rank = stated and message.shape.unknown_rank
    shape = tuple(dim.size for dim in message.shape.dim) if stated and not unknown_rank else None
    names = tuple(dim.name for dim in message.shape.dim)
    return Field(message.name, message.dtype, shape, tuple(map(_field, message.subfields.data)), message.profile, unknown_rank, names)


def _bare_field(message):
    shape = tuple(message.shape.dims) if message.HasField("shape") else None
    return Field(message.name, message.dtype, shape, tuple(map(_bare_field, message.subfields.data)), message.profile)


def _has_profile(field):
    return field.profile != 0 or any(map(_has_profile, field.subfields))


def _check_names(contract):
    if not contract.signatures:
        raise Refused(f"the contract {contract.path} has no signature, so there is no function to call")
    names = set()
    for signature in contract.signatures:
        if not signature.name:
            raise Refused(f"the contract {contract.path} has a signature without a name, so there is no function to call for it")
        if signature.name in names:
            raise Refused(f"the contract {contract.path} has two signatures named {signature.name!r}")
        names.add(signature.name)


def _is_bare_signature(encoded):
    # Looked for in the bytes: parsing them as a message that they are not makes protobuf's C++ part complain on stderr about what is a good
    # contract.
    position = 0
    while position < len(encoded):
        tag, position = _varint(encoded, position)
        if tag not in (0x0A, 0x12):
            # Field 3 as a message. Anything else here is for the real parser to judge.
            return tag == 0x1A
        length, position = _varint(encoded, position)
        position += length
    return False


def _varint(encoded, position):
    value = shift = 0
    while position < len(encoded):
        byte = encoded[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            break
    return value, position
