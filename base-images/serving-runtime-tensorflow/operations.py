"""Writes the list of the operations that this TensorFlow can run, as `hs` compares models with it.

usage: python operations.py > operations-MINOR.txt, with the TensorFlow of the runtime, MINOR as in 2.21

The names come from TensorFlow's own registry, after everything that `import tensorflow` loads has registered what it has. The first lines say which
TensorFlow it was and which graphs it takes (`versions.proto`: a graph names the oldest consumer that may read it). The list is compiled into `hs`
(src/model/tensorflow_operations.rs).
"""

import tensorflow as tf
from tensorflow.core.framework import op_def_pb2
from tensorflow.python.client import pywrap_tf_session

operations = op_def_pb2.OpList()
operations.ParseFromString(pywrap_tf_session.TF_GetBuffer(pywrap_tf_session.TF_GetAllOpList()))
print("# Operations of TensorFlow, written by operations.py")
print("tensorflow", tf.__version__)
print("graph_def_version", tf.version.GRAPH_DEF_VERSION)
for name in sorted({operation.name for operation in operations.op}):
    print(name)
