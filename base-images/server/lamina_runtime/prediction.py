"""One prediction: from a request to the user's function and back, or to a status that tells the caller whose fault it was.

Pure but for calling the user's function: no gRPC server, no threads. What must stay true is the mapping, which clients of the ancestor rely
on: a request that does not fit the contract is INVALID_ARGUMENT and names the field; a function that raises is UNKNOWN; a function that
returns something else than a PredictResponse is OUT_OF_RANGE. Types and shapes of tensors are the function's business: the ancestor never
compared them, and models exist that take more than their contract says.
"""

import logging

import grpc

import hydro_serving_grpc as hs

log = logging.getLogger("lamina.predict")

# gRPC carries the message in a header, and whole headers above 8 KiB are dropped by common proxies.
MESSAGE_CHARACTERS_MAX = 2000


class Failure(Exception):
    """A prediction that ends in a status."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code
        self.message = message[:MESSAGE_CHARACTERS_MAX]


def predict(model, request):
    signature = _signature(model, request.model_spec.signature_name)
    _check_inputs(signature, request.inputs)
    inputs = {name: request.inputs[name] for name in signature.inputs}
    try:
        response = signature.function(**inputs)
    # Users' code may raise anything, SystemExit too; one prediction must not end the server.
    except BaseException as error:
        log.exception("%s failed", signature.name)
        raise Failure(grpc.StatusCode.UNKNOWN, f"{signature.name} failed: {type(error).__name__}: {error}") from None
    if not isinstance(response, hs.PredictResponse):
        message = (
            f"{signature.name} returned {type(response).__module__}.{type(response).__qualname__}, "
            "and has to return hydro_serving_grpc.PredictResponse"
        )
        log.error(message)
        raise Failure(grpc.StatusCode.OUT_OF_RANGE, message)
    _note_outputs(signature, response)
    return response


def _signature(model, name):
    if not name and len(model.signatures) == 1:
        return next(iter(model.signatures.values()))
    if name in model.signatures:
        return model.signatures[name]
    known = ", ".join(sorted(model.signatures))
    asked = f"the model has no signature {name!r}" if name else "model_spec.signature_name is empty and the model has several signatures"
    raise Failure(grpc.StatusCode.INVALID_ARGUMENT, f"{asked}; it has: {known}")


def _check_inputs(signature, inputs):
    missing = [name for name in signature.inputs if name not in inputs]
    unknown = sorted(name for name in inputs if name not in signature.inputs)
    if not missing and not unknown:
        return
    complaints = []
    if missing:
        complaints.append("missing: " + ", ".join(missing))
    if unknown:
        complaints.append("not in the contract: " + ", ".join(unknown))
    expected = ", ".join(signature.inputs) or "none"
    raise Failure(
        grpc.StatusCode.INVALID_ARGUMENT,
        f"the inputs do not fit signature {signature.name!r}: {'; '.join(complaints)} (inputs are: {expected})",
    )


def _note_outputs(signature, response):
    # A warning only: the ancestor passed such answers on, and callers may depend on the part that is there.
    difference = set(signature.outputs) ^ set(response.outputs)
    if difference:
        log.warning("%s: these outputs are in the contract or in the answer, but not in both: %s", signature.name, ", ".join(sorted(difference)))
