"""What is answered over HTTP: the same predictions as over gRPC, as JSON.

    POST /predict/{signature}   {"x": [[1, 2]]} → {"y": [3]}; without a signature where the model has one only
    GET  /health                200 {"status": "SERVING"}, 503 while stopping
    GET  /contract              the contract, as `hs contract show --output json` has it

What must stay true: an error is {"error": text, "code": gRPC's code} with the status that says whose fault it was: 4xx the caller's, 5xx the
model's or ours.
"""

import json
import logging
import re
from urllib.parse import unquote

import grpc

from lamina_runtime import health, json_form, json_values, prediction
from lamina_runtime.backend import Failure
from lamina_runtime.tensors import TensorError

log = logging.getLogger("lamina.http")

# As in google/rpc/code.proto, where gateways between gRPC and HTTP have it from; not listed: 500.
_STATUS = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}


class Routes:
    def __init__(self, contract, model, check, work, process_health):
        self._contract = json.dumps(json_form.of_contract(contract), ensure_ascii=False).encode()
        self._model = model
        self._check = check
        self._work = work
        self._health = process_health

    async def answer(self, head, body):
        """(status, headers, body) for a request."""
        # A proxy's form has the host in it.
        path = re.sub("^https?://[^/]*", "", head.target).partition("?")[0]
        if path == "/health" or path == "/contract":
            if head.method not in ("GET", "HEAD"):
                return self._wrong_method("GET, HEAD")
            return self._of_health() if path == "/health" else (200, {}, self._contract)
        if path == "/predict" or path.startswith("/predict/"):
            if head.method != "POST":
                return self._wrong_method("POST")
            return await self._predict(unquote(path[len("/predict/") :]), body)
        return _error(404, "there is POST /predict/{signature}, GET /health and GET /contract here")

    def _of_health(self):
        serving = self._health.status == health.SERVING
        return (200, {}, b'{"status": "SERVING"}') if serving else (503, {}, b'{"status": "NOT_SERVING"}')

    def _wrong_method(self, allowed):
        status, headers, content = _error(405, f"this path takes {allowed}")
        return status, {**headers, "Allow": allowed}, content

    async def _predict(self, name, body):
        try:
            signature = prediction.signature_of(self._model, name)
        except Failure as failure:
            return _error(404 if name else 400, failure.message, failure.code)
        try:
            return 200, {}, await self._work.run(self._predicted, signature, body)
        except Failure as failure:
            return _error(_STATUS.get(failure.code, 500), failure.message, failure.code)
        except json_form.TooLarge as error:
            return _error(413, str(error))

    def _predicted(self, signature, body):
        try:
            document = json_form.loads(body)
            declared = {field.name: field for field in signature.inputs}
            # Names that the contract does not have are left for the check, which knows how to say so.
            inputs = {name: json_values.tensor_of(value, declared[name]) if name in declared else None for name, value in document.items()}
        except (json_values.Unreadable, ValueError) as error:
            raise Failure(grpc.StatusCode.INVALID_ARGUMENT, f"the inputs do not fit signature {signature.name!r}: {error}") from None
        response = prediction.predict(signature, inputs, self._check)
        try:
            return json_form.dumps(response)
        except TensorError as error:
            message = f"the output of {signature.name!r} cannot be written as JSON: it {error}"
            log.error(message)
            raise Failure(grpc.StatusCode.INTERNAL, message) from None


def _error(status, message, code=None):
    document = {"error": message}
    if code is not None:
        document["code"] = code.name
    return status, {}, json.dumps(document, ensure_ascii=False).encode()
