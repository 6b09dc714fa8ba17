"""One prediction: from a request to the backend and back, or to a status that tells the caller whose fault it was.

Pure but for calling the model: no gRPC server, no threads. What must stay true is the mapping, which clients of the ancestor rely on: a request
that does not fit the contract is INVALID_ARGUMENT and names the field; all else is the backend's to say, or INTERNAL. Types and shapes of tensors are the
function's business: the ancestor never compared them, and models exist that take more than their contract says.
"""

import logging

import grpc

import hydro_serving_grpc as hs
from lamina_runtime.backend import Failure

log = logging.getLogger("lamina.predict")


def predict(model, request):
    signature = _signature(model, request.model_spec.signature_name)
    _check_inputs(signature, request.inputs)
    inputs = {field.name: request.inputs[field.name] for field in signature.inputs}
    try:
        answer = signature.call(inputs)
    except Failure:
        raise
    except Exception as error:
        log.exception("%s failed", signature.name)
        raise Failure(grpc.StatusCode.INTERNAL, f"{signature.name} failed: {type(error).__name__}: {error}") from None
    response = answer if isinstance(answer, hs.PredictResponse) else hs.PredictResponse(outputs=answer)
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
    declared = [field.name for field in signature.inputs]
    missing = [name for name in declared if name not in inputs]
    unknown = sorted(name for name in inputs if name not in declared)
    if not missing and not unknown:
        return
    complaints = []
    if missing:
        complaints.append("missing: " + ", ".join(missing))
    if unknown:
        complaints.append("not in the contract: " + ", ".join(unknown))
    expected = ", ".join(declared) or "none"
    raise Failure(
        grpc.StatusCode.INVALID_ARGUMENT,
        f"the inputs do not fit signature {signature.name!r}: {'; '.join(complaints)} (inputs are: {expected})",
    )


def _note_outputs(signature, response):
    # A warning only: the ancestor passed such answers on, and callers may depend on the part that is there.
    difference = {field.name for field in signature.outputs} ^ set(response.outputs)
    if difference:
        log.warning("%s: these outputs are in the contract or in the answer, but not in both: %s", signature.name, ", ".join(sorted(difference)))
