"""What a backend gives to the server: a model with signatures that can be called.

A backend is a module of lamina_runtime.backends, named as LAMINA_BACKEND says (the image's configuration sets it), with one function:

    load(settings, contract) -> Model

It is called once, in the main thread, before the port opens; Refused is raised where the model cannot be served, and its text names what is missing and
where. `contract` is a lamina_runtime.contract.Contract.

What must stay true: the server checks a request against the contract before it calls, and the answer afterwards, so a backend converts and computes,
and compares nothing that the contract says. `call` runs in several threads at once.
"""

import importlib
import re
from dataclasses import dataclass
from typing import Dict, Tuple

import grpc

from lamina_runtime.contract import Field
from lamina_runtime.settings import Refused

# gRPC carries the message in a header, percent-encoded, and whole headers above 8 KiB are dropped by clients and proxies.
MESSAGE_BYTES_MAX = 4000


class Failure(Exception):
    """A prediction that ends in a gRPC status; the message is for the caller."""

    def __init__(self, code: grpc.StatusCode, message: str):
        super().__init__(message)
        self.code = code
        self.message = _for_a_header(message)


def _for_a_header(text):
    size_bytes = 0
    for position, character in enumerate(text):
        size_bytes += 1 if " " <= character <= "~" and character != "%" else 3 * len(character.encode("utf-8", "replace"))
        if size_bytes > MESSAGE_BYTES_MAX:
            text = text[:position]
            break
    # Halves of surrogate pairs, which file names have, cannot travel.
    return text.encode("utf-8", "replace").decode()


class Stopped(BaseException):
    """A stop was asked for while the model was loading. Not an Exception, so that users' `except Exception` lets it pass."""


@dataclass(frozen=True)
class Signature:
    """One thing that the model can be asked. A backend derives from it."""

    name: str
    inputs: Tuple[Field, ...]
    outputs: Tuple[Field, ...]

    def call(self, inputs):
        """Computes: {name: TensorProto} for each declared input → {name: TensorProto} for each declared output, or a whole PredictResponse.

        Raises Failure for what the caller shall read; anything else that is raised is answered as INTERNAL, and its traceback logged.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Model:
    name: str
    signatures: Dict[str, Signature]


def load(settings, contract):
    if not re.fullmatch("[a-z_]+", settings.backend):
        raise Refused(f"LAMINA_BACKEND is {settings.backend!r}, and has to be the name of a backend, as `python`")
    module = f"lamina_runtime.backends.{settings.backend}"
    try:
        backend = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise Refused(f"LAMINA_BACKEND is {settings.backend!r}, and this image has no such backend") from None
    return backend.load(settings, contract)
