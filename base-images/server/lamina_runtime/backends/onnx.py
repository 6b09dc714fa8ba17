"""The backend of ONNX models: one graph, computed by ONNX Runtime for every signature of the contract.

How a value of a type that ONNX has and a tensor has not (a sequence, a map) travels is onnx_values.py's business. What must stay true: a model that this
ONNX Runtime cannot load, and a field of the contract that the model lacks, stop the container with one sentence; a request that ONNX Runtime refuses is the
caller's fault, and is said in its words.
"""

import logging
import os
import re
from dataclasses import dataclass
from typing import Any, Tuple

import grpc
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as states

from lamina_runtime import backend, processors
from lamina_runtime.backend import Failure
from lamina_runtime.backends import onnx_values
from lamina_runtime.backends.onnx_values import Value
from lamina_runtime.settings import Refused
from lamina_runtime.tensors import TensorError

log = logging.getLogger("lamina.onnx")

# Errors only: the rest is about the graph's style.
LOG_ERRORS = 3

FOLDERS_MAX = 10_000


@dataclass(frozen=True)
class Signature(backend.Signature):
    feeds: Tuple[Value, ...]
    fetches: Tuple[Value, ...]
    session: Any

    def call(self, inputs):
        fed = {}
        for value in self.feeds:
            try:
                fed[value.name] = onnx_values.fed(value, inputs[value.name])
            except TensorError as error:
                raise Failure(grpc.StatusCode.INVALID_ARGUMENT, f"input {value.name!r} {error}") from None
        if not self.fetches:
            # ONNX Runtime takes that for a mistake.
            return {}
        try:
            results = self.session.run([value.source for value in self.fetches], fed)
        except states.InvalidArgument as error:
            raise Failure(grpc.StatusCode.INVALID_ARGUMENT, f"{self.name} cannot be computed: {_said(error)}") from None
        except Exception as error:
            log.exception("%s failed", self.name)
            raise Failure(grpc.StatusCode.INTERNAL, f"{self.name} failed: {_said(error)}") from None
        outputs = {}
        for value, result in zip(self.fetches, results):
            try:
                outputs[value.name] = onnx_values.fetched(value, result)
            except TensorError as error:
                raise Failure(grpc.StatusCode.OUT_OF_RANGE, f"output {value.name!r} {error}") from None
        return outputs


def load(settings, contract):
    path = find(os.path.join(settings.model_dir, "files"))
    session = _session(path, path)
    narrow = [value.name for value in session.get_outputs() if value.type == "tensor(bfloat16)"]
    if narrow:
        # ONNX Runtime's Python has no array for them.
        session = _session(path, _with_wide_outputs(path, narrow))
    inputs = {value.name: value.type for value in [*session.get_inputs(), *session.get_overridable_initializers()]}
    outputs = {value.name: value.type for value in session.get_outputs()}
    required = [value.name for value in session.get_inputs()]
    signatures = {}
    for declared in contract.signatures:
        feeds = _values(declared, "input", declared.inputs, inputs)
        fetches = _values(declared, "output", declared.outputs, outputs)
        lacking = [name for name in required if name not in {field.name for field in declared.inputs} and not inputs[name].startswith("optional(")]
        if lacking:
            raise Refused(f"the model needs the inputs {', '.join(lacking)}, of which the contract's signature {declared.name!r} says nothing")
        signatures[declared.name] = Signature(declared.name, declared.inputs, declared.outputs, feeds, fetches, session)
    return backend.Model(contract.model_name, signatures)


def find(files):
    """The one .onnx file: of the payload itself, or of the folders below it."""
    level, seen = [files], 0
    while level and seen <= FOLDERS_MAX:
        found, below = [], []
        for folder in level:
            try:
                entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
            except OSError as error:
                raise Refused(f"the folder {folder} cannot be listed ({error.strerror})") from None
            found += [entry.path for entry in entries if entry.name.lower().endswith(".onnx") and entry.is_file()]
            below += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        if len(found) > 1:
            raise Refused(f"there are several ONNX models in {files}, and one is served: {', '.join(found[:10])}")
        if found:
            return found[0]
        level, seen = below, seen + len(below)
    raise Refused(f"there is no .onnx file in {files}, nor in a folder below it: does the payload name it?")


def _session(path, model):
    """`model`: the path, or the bytes that stand for it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = processors.available()
    options.log_severity_level = LOG_ERRORS
    if model is not path:
        # Where weights beside the model are looked for; bytes have no folder.
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.path.dirname(path))
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise Refused(f"ONNX Runtime {onnxruntime.__version__} cannot load the model {path}: {_said(error)}") from error


def _values(declared, kind, fields, types):
    placed = []
    for field in fields:
        if field.name not in types:
            raise Refused(
                f"the model has no {kind} {field.name!r}, which the contract's signature {declared.name!r} asks for; "
                f"its {kind}s are: {', '.join(sorted(types)) or 'none'}"
            )
        value = onnx_values.place(field, types[field.name])
        if value is None:
            raise Refused(f"the model's {kind} {field.name!r} is {types[field.name]}, whose values no {'request' if kind == 'input' else 'answer'} can carry")
        placed.append(value)
    return tuple(placed)


def _with_wide_outputs(path, names):
    """The model with a float output beside each of these bfloat16 ones, named as onnx_values.wide says.

    Messages of protobuf that follow each other are one, whose lists are joined: a graph with the new nodes and outputs is appended to the file's bytes. Numbers of
    fields are those of onnx.proto.
    """
    graph = b""
    for name in names:
        to = _bytes(1, b"to") + _number(3, 1) + _number(20, 2)
        graph += _bytes(1, _bytes(1, name.encode()) + _bytes(2, onnx_values.wide(name).encode()) + _bytes(4, b"Cast") + _bytes(5, to))
        graph += _bytes(12, _bytes(1, onnx_values.wide(name).encode()) + _bytes(2, _bytes(1, _number(1, 1))))
    with open(path, "rb") as file:
        return file.read() + _bytes(7, graph)


def _bytes(field, content):
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _number(field, value):
    return _varint(field << 3) + _varint(value)


def _varint(value):
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(encoded) + bytes([value])


def _said(error):
    """What ONNX Runtime says, without its numbers and its own source paths."""
    text = str(error).strip() or type(error).__name__
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ", "", text)
    text = re.sub(r"Load model from .*? failed: ?", "", text)
    text = re.sub(r"\S*/(onnxruntime|onnxruntime_src)/\S+:\d+ .*?(?=[A-Z])", "", text)
    return " ".join(text.split()).rstrip(".")
