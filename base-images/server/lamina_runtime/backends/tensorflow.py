"""The backend of TensorFlow models: a SavedModel of TensorFlow 1 or 2, by the signatures that its meta graphs have.

A meta graph is loaded into a session, as TensorFlow Serving does it: it is the one way that is the same for both generations, and it needs no Keras and none of
the Python objects that the model was saved from. Where the SavedModel is, and what of it is asked for, is saved_model.py's business.

What must stay true: an operation that this TensorFlow lacks, and a signature or a field that the SavedModel lacks, stop the container with one sentence that
names them; tensors go in and out by their buffers; a request that TensorFlow refuses is the caller's fault, and is said in TensorFlow's words.
"""

import logging
import os
import tempfile
from dataclasses import dataclass
from typing import Callable, Tuple

# TensorFlow reads it when it is imported. What it says below the level of errors is about its own build.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
try:
    tempfile.gettempdir()
except FileNotFoundError:
    # Nothing can be written in this container. TensorFlow asks for the name of such a folder when it is imported, and for the folder itself never.
    tempfile.tempdir = "/tmp"

import grpc  # noqa: E402
import tensorflow as tf  # noqa: E402
from tensorflow.python.framework import op_def_registry  # noqa: E402
from tensorflow.python.saved_model import loader_impl  # noqa: E402

from lamina_runtime import backend, processors  # noqa: E402
from lamina_runtime.backend import Failure  # noqa: E402
from lamina_runtime.backends import saved_model, values  # noqa: E402
from lamina_runtime.backends.saved_model import Placed  # noqa: E402
from lamina_runtime.settings import Refused  # noqa: E402

log = logging.getLogger("lamina.tensorflow")

SHOWN_MAX = 10

# TensorFlow's word for whose fault it was, as the caller shall read it. All others are INTERNAL.
CALLERS_FAULT = (tf.errors.InvalidArgumentError, tf.errors.OutOfRangeError, tf.errors.FailedPreconditionError)

# How the lines of TensorFlow's messages begin that say where in the graph it was.
NOT_TELLING = ("Graph execution error", "Detected at node", "Node:", "<stack traces", "File ", "[[", "(0)", "(1)")


@dataclass(frozen=True)
class Signature(backend.Signature):
    feeds: Tuple[Placed, ...]
    fetches: Tuple[Placed, ...]
    # Tensors in the order of `feeds`, parts and all → tensors in the order of `fetches`.
    run: Callable

    def call(self, inputs):
        fed = []
        for field in self.feeds:
            fed += values.fed(field, inputs[field.name])
        try:
            fetched = list(self.run(*fed))
        except CALLERS_FAULT as error:
            raise Failure(grpc.StatusCode.INVALID_ARGUMENT, f"{self.name} cannot be computed: {_said(error)}") from None
        except tf.errors.ResourceExhaustedError as error:
            raise Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{self.name} cannot be computed: {_said(error)}") from None
        except tf.errors.OpError as error:
            log.exception("%s failed", self.name)
            raise Failure(grpc.StatusCode.INTERNAL, f"{self.name} failed: {_said(error)}") from None
        outputs = {}
        for field in self.fetches:
            outputs[field.name] = values.fetched(field, fetched)
        return outputs


def load(settings, contract):
    folder = saved_model.find(os.path.join(settings.model_dir, "files"))
    try:
        meta_graphs = list(loader_impl.parse_saved_model(folder).meta_graphs)
    except Exception as error:
        raise Refused(f"TensorFlow {tf.__version__} cannot read the SavedModel in {folder}: {_said(error)}") from error
    sessions = {}
    signatures = {}
    for declared in contract.signatures:
        chosen = saved_model.choose(meta_graphs, declared, settings.saved_model_tags)
        if id(chosen) not in sessions:
            sessions[id(chosen)] = _session(folder, chosen)
        signatures[declared.name] = _signature(declared, chosen.signature_def[declared.name], sessions[id(chosen)])
    return backend.Model(contract.model_name, signatures)


def _session(folder, meta_graph):
    tags = list(meta_graph.meta_info_def.tags)
    _check_operations(meta_graph)
    threads = processors.available()
    config = tf.compat.v1.ConfigProto(intra_op_parallelism_threads=threads, inter_op_parallelism_threads=threads)
    session = tf.compat.v1.Session(graph=tf.Graph(), config=config)
    try:
        with session.graph.as_default():
            loader_impl.SavedModelLoader(folder).load(session, tags)
    except Exception as error:
        raise Refused(f"TensorFlow {tf.__version__} cannot load the SavedModel in {folder}: {_said(error)}") from error
    # Nobody changes it any more; and a callable that was made for it stays good.
    session.graph.finalize()
    return session


def _check_operations(meta_graph):
    library = meta_graph.graph_def.library
    own = {function.signature.name for function in library.function}
    used = {node.op for node in meta_graph.graph_def.node}
    for function in library.function:
        used.update(node.op for node in function.node_def)
    # A gradient is called by the name of its function.
    lacking = sorted(name for name in used - own if op_def_registry.get(name) is None and name != "SymbolicGradient")
    if lacking:
        made_by = meta_graph.meta_info_def.tensorflow_version or "an unknown version"
        more = f" and {len(lacking) - SHOWN_MAX} more" if len(lacking) > SHOWN_MAX else ""
        raise Refused(
            f"the model, saved by TensorFlow {made_by}, needs operations that TensorFlow {tf.__version__} of this image does not have: "
            f"{', '.join(lacking[:SHOWN_MAX])}{more}"
        )


def _signature(declared, definition, session):
    feeds = tuple(saved_model.placed(field, definition.inputs[field.name]) for field in declared.inputs)
    fetches = tuple(saved_model.placed(field, definition.outputs[field.name]) for field in declared.outputs)
    # A value that the SavedModel itself has for an input that the contract leaves out.
    constants = []
    for name in sorted(set(definition.inputs) - {field.name for field in declared.inputs}):
        tensor = session.graph.get_tensor_by_name(definition.inputs[name].name)
        constants.append((tensor, tf.make_ndarray(definition.defaults[name])))
    named = [session.graph.get_tensor_by_name(name) for field in feeds for name in field.tensors]
    fetched = [session.graph.get_tensor_by_name(name) for field in fetches for name in field.tensors]
    # The same tensor may be fed under two names of a signature; a session takes each once.
    unique = list(dict.fromkeys(tensor.ref() for tensor in named))
    run = session.make_callable(fetched, feed_list=[reference.deref() for reference in unique] + [tensor for tensor, _ in constants])
    positions = [[tensor.ref() for tensor in named].index(reference) for reference in unique]
    constant_values = [value for _, value in constants]

    def call(*fed):
        return run(*[fed[position] for position in positions], *constant_values)

    return Signature(declared.name, declared.inputs, declared.outputs, feeds, fetches, call)


def _said(error):
    """What TensorFlow says, without where in its own graph and stack it was."""
    text = getattr(error, "message", None) or str(error) or type(error).__name__
    lines = [line.strip() for line in text.splitlines()]
    telling = [line for line in lines if line and not line.startswith(NOT_TELLING)]
    return (telling or lines)[0].rstrip(".")
