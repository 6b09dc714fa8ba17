"""One prediction: from inputs to the model and back, or to a status that tells the caller whose fault it was.

Pure but for calling the model: no gRPC server, no HTTP, no threads. What must stay true is the mapping: what does not fit the contract is INVALID_ARGUMENT
in a request, and names signature and field; in an answer it is the model's fault, INTERNAL, with a line in the log. All else is the backend's
to say.

The ancestor compared names only, and passed answers on as they were; LAMINA_CHECK=names is that.
"""

import logging
import time

import grpc

import hydro_serving_grpc as hs
from lamina_runtime import checking
from lamina_runtime.backend import Failure

log = logging.getLogger("lamina.predict")


def signature_of(model, name):
    if not name and len(model.signatures) == 1:
        return next(iter(model.signatures.values()))
    if name in model.signatures:
        return model.signatures[name]
    known = ", ".join(sorted(model.signatures)[:20])
    asked = f"the model has no signature {name!r}" if name else "the request names no signature and the model has several"
    raise Failure(grpc.StatusCode.INVALID_ARGUMENT, f"{asked}; it has: {known}")


def predict(signature, inputs, check):
    """`inputs`: a map of TensorProto by name, which is the prediction's to change. Returns a PredictResponse."""
    fits = checking.whole if check == "full" else checking.names
    try:
        fits(signature.inputs, inputs)
    except checking.Unfit as unfit:
        raise Failure(grpc.StatusCode.INVALID_ARGUMENT, f"the inputs do not fit signature {signature.name!r}: {unfit}") from None
    begun = time.monotonic()
    response = _call(signature, {field.name: inputs[field.name] for field in signature.inputs})
    log.debug("%s answered in %.1f ms", signature.name, (time.monotonic() - begun) * 1000)
    try:
        fits(signature.outputs, response.outputs)
    except checking.Unfit as unfit:
        message = f"the outputs of the model do not fit signature {signature.name!r}: {unfit}"
        if check == "full":
            log.error(message)
            raise Failure(grpc.StatusCode.INTERNAL, message) from None
        # A warning only: the ancestor passed such answers on, and callers may depend on the part that is there.
        log.warning(message)
    return response


def _call(signature, inputs):
    try:
        answer = signature.call(inputs)
    except Failure:
        raise
    except Exception as error:
        log.exception("%s failed", signature.name)
        raise Failure(grpc.StatusCode.INTERNAL, f"{signature.name} failed: {type(error).__name__}: {error}") from None
    return answer if isinstance(answer, hs.PredictResponse) else hs.PredictResponse(outputs=answer)
