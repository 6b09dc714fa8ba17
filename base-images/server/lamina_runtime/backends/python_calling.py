"""The two ways in which the ancestor's runtimes called a function; LAMINA_CALLING, which the image's configuration sets, says which one.

    tensor_proto   the seed era, to 2.2: a TensorProto for each input, and a PredictResponse back
    numpy          2.3 and later: an array or scalar for each input, and a dict of them back

Nothing is guessed from the function. What must stay true are the statuses, which clients of each era rely on: a function that raises is UNKNOWN in
the first way and INTERNAL in the second; one that returns what cannot be an answer is OUT_OF_RANGE in both, and the message names the other way
where the value would fit it.
"""

import logging
from dataclasses import dataclass
from typing import Callable, ClassVar

import grpc

import hydro_serving_grpc as hs
from lamina_runtime import arrays, backend, dtypes
from lamina_runtime.backend import Failure
from lamina_runtime.settings import Refused
from lamina_runtime.tensors import TensorError

log = logging.getLogger("lamina.predict")


@dataclass(frozen=True)
class _Calling(backend.Signature):
    function: Callable

    calling: ClassVar[str]
    raised: ClassVar[grpc.StatusCode]
    # A word that the text of a TypeError or AttributeError has when the function was written for the other way.
    mistaken_for: ClassVar[str]

    @classmethod
    def check_declared(cls, declared):
        """Refuses, before anything is loaded, what cannot be called in this way."""

    def _run(self, inputs):
        try:
            return self.function(**inputs)
        # Users' code may raise anything, SystemExit too; one prediction must not end the server.
        except BaseException as error:
            log.exception("%s failed", self.name)
            hint = ""
            if isinstance(error, (AttributeError, TypeError)) and self.mistaken_for in str(error):
                hint = f" ({self._said()})"
            raise Failure(self.raised, f"{self.name} failed: {type(error).__name__}: {error}{hint}") from None

    def _wrong_answer(self, problem):
        message = f"{self.name} {problem}"
        log.error(message)
        return Failure(grpc.StatusCode.OUT_OF_RANGE, message)

    def _said(self):
        other = next(name for name in BY_NAME if name != self.calling)
        return f"this runtime calls functions in the way {self.calling}; with LAMINA_CALLING={other} it calls them in the other one"


def _type(value):
    return f"{type(value).__module__}.{type(value).__qualname__}"


class TensorProtoCalling(_Calling):
    calling = "tensor_proto"
    raised = grpc.StatusCode.UNKNOWN
    mistaken_for = "TensorProto"

    def call(self, inputs):
        response = self._run(inputs)
        if isinstance(response, hs.PredictResponse):
            return response
        hint = f": {self._said()}" if isinstance(response, dict) else ""
        raise self._wrong_answer(f"returned {_type(response)}, and has to return hydro_serving_grpc.PredictResponse{hint}")


class NumpyCalling(_Calling):
    calling = "numpy"
    raised = grpc.StatusCode.INTERNAL
    mistaken_for = "numpy"

    @classmethod
    def check_declared(cls, declared):
        for field in declared.inputs + declared.outputs:
            without = arrays.without_array(field)
            if without:
                raise Refused(
                    f"the contract's signature {declared.name!r} has {dtypes.name(without)} in {field.name!r}, of which there are no arrays: "
                    "a runtime that calls in the way numpy cannot serve it"
                )

    def call(self, inputs):
        values = {}
        for field in self.inputs:
            try:
                values[field.name] = arrays.value_of(inputs[field.name], field)
            except TensorError as error:
                raise Failure(grpc.StatusCode.INVALID_ARGUMENT, f"{self.name}: {field.name} {error}") from None
        answer = self._run(values)
        if not isinstance(answer, dict):
            hint = f": {self._said()}" if isinstance(answer, hs.PredictResponse) else ""
            raise self._wrong_answer(f"returned {_type(answer)}, and has to return a dict of arrays by the names of the outputs{hint}")
        declared = {field.name: field for field in self.outputs}
        outputs = {}
        for name, value in answer.items():
            if not isinstance(name, str):
                raise self._wrong_answer(f"returned a dict with the key {name!r}, and its keys have to be the names of the outputs")
            try:
                outputs[name] = arrays.tensor_of(value, declared.get(name))
            except (TensorError, OverflowError) as error:
                raise self._wrong_answer(f"returned a dict in which {name} {error}") from None
        return outputs


BY_NAME = {calling.calling: calling for calling in (TensorProtoCalling, NumpyCalling)}
