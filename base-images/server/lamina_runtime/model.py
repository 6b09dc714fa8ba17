"""A model as the runtime sees it: its contract, and for each signature the user's function.

Loading happens once, before the port opens, so that a broken model is a container that stops with a reason, not one that answers errors.
What must stay true: whatever is missing is named together with the path where it was looked for, and with the remedy where there is one.
"""

import importlib
import os
from dataclasses import dataclass
from typing import Callable, Dict, List

from google.protobuf.message import DecodeError

import hydro_serving_grpc as hs
from lamina_runtime.settings import Refused


@dataclass(frozen=True)
class Signature:
    name: str
    inputs: List[str]
    outputs: List[str]
    function: Callable


@dataclass(frozen=True)
class Model:
    name: str
    signatures: Dict[str, Signature]


def load(model_dir):
    contract = read_contract(os.path.join(model_dir, "contract.protobin"))
    module = import_func_main(model_dir)
    signatures = {}
    for declared in contract.signatures:
        signatures[declared.signature_name] = Signature(
            name=declared.signature_name,
            inputs=[field.name for field in declared.inputs],
            outputs=[field.name for field in declared.outputs],
            function=_function(module, declared.signature_name),
        )
    return Model(name=contract.model_name, signatures=signatures)


def read_contract(path):
    try:
        with open(path, "rb") as file:
            encoded = file.read()
    except FileNotFoundError:
        raise Refused(
            f"there is no contract at {path}: this image holds no model, or MODEL_DIR points elsewhere"
        ) from None
    except OSError as error:
        raise Refused(f"the contract {path} cannot be read: {error.strerror}") from None
    if _is_bare_signature(encoded):
        raise Refused(
            f"{path} holds a bare signature, as the 3.x releases write it; this runtime reads contracts of dialect v1: "
            "build the image with --dialect v1"
        )
    try:
        contract = hs.ModelContract.FromString(encoded)
    except DecodeError:
        raise Refused(f"{path} is not a contract: its bytes are no ModelContract message") from None
    _check_names(contract, path)
    return contract


def import_func_main(model_dir):
    folder = os.path.join(model_dir, "files", "src")
    try:
        return importlib.import_module("func_main")
    except ModuleNotFoundError as error:
        if error.name == "func_main":
            raise Refused(f"there is no func_main.py in {folder}: {_what_is_there(folder)}") from None
        raise Refused(
            f"func_main.py imports {error.name!r}, which this image does not have: add it to the model's requirements.txt, or to its payload"
        ) from error
    # Users' code may raise anything at all here, sys.exit() among it.
    except BaseException as error:
        if isinstance(error, (KeyboardInterrupt, Stopped)):
            raise
        raise Refused(f"importing func_main.py failed: {type(error).__name__}: {error}") from error


class Stopped(BaseException):
    """A stop was asked for while the model was loading. Not an Exception, so that users' `except Exception` lets it pass."""


def _is_bare_signature(encoded):
    # Outputs are field 3 of a signature; a contract has no field 3 at its top level. Looked for in the bytes: parsing them as a message that
    # they are not makes protobuf's C++ part complain on stderr about what is a good contract.
    position = 0
    while position < len(encoded):
        tag, position = _varint(encoded, position)
        if tag != 0x12 and tag != 0x0A:
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


def _check_names(contract, path):
    if not contract.signatures:
        raise Refused(f"the contract {path} has no signature, so there is no function to call")
    for signature in contract.signatures:
        if not signature.signature_name:
            raise Refused(f"the contract {path} has a signature without a name, so there is no function to call for it")


def _function(module, name):
    function = getattr(module, name, None)
    if function is None:
        raise Refused(f"func_main.py has no function {name!r}, which the contract's signature {name!r} asks for")
    if not callable(function):
        raise Refused(f"{name!r} in func_main.py is no function ({type(function).__name__}), and the contract's signature {name!r} asks for one")
    return function


def _what_is_there(folder):
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        return f"the folder cannot be listed ({error.strerror}); does the payload in serving.yaml name src/?"
    if not names:
        return "the folder is empty"
    shown = ", ".join(names[:10])
    return f"it holds {shown}" + (f" and {len(names) - 10} more" if len(names) > 10 else "")
