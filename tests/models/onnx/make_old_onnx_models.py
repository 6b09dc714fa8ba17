#!/usr/bin/env python3
"""Makes the ONNX models of 2018 with the `onnx` package of 2018.

What it is: writes <name>/model.onnx as an exporter of that year did: IR version 3, operator sets 5 to 8, every weight also an input.
What it is not: a source of expectations; make_onnx_models.py, with the packages of today, says what is in the files.
What must stay true: it runs in Python 3.6 with onnx 1.3.0.

usage: make_old_onnx_models.py
"""

import os

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper

HERE = os.path.dirname(os.path.abspath(__file__))


def value(name, shape):
    return h.make_tensor_value_info(name, T.FLOAT, shape)


def network(batch):
    """A small picture network: convolution, batch normalisation, pooling, a fully connected layer."""
    shapes = [("conv.weight", [2, 1, 3, 3]), ("bn.scale", [2]), ("bn.bias", [2]), ("bn.mean", [2]), ("bn.var", [2]), ("fc.weight", [3, 18])]
    weights = [(name, np.full(shape, 0.5, np.float32)) for name, shape in shapes]
    inputs = [value("data_0", [batch, 1, 8, 8])] + [value(name, list(array.shape)) for name, array in weights]
    nodes = [
        h.make_node("Conv", ["data_0", "conv.weight"], ["conv"], kernel_shape=[3, 3]),
        h.make_node("BatchNormalization", ["conv", "bn.scale", "bn.bias", "bn.mean", "bn.var"], ["bn"]),
        h.make_node("Relu", ["bn"], ["relu"]),
        h.make_node("MaxPool", ["relu"], ["pool"], kernel_shape=[2, 2], strides=[2, 2]),
        h.make_node("Flatten", ["pool"], ["flat"]),
        h.make_node("Transpose", ["fc.weight"], ["fc"], perm=[1, 0]),
        h.make_node("MatMul", ["flat", "fc"], ["scores"]),
        h.make_node("Softmax", ["scores"], ["prob_1"]),
    ]
    initializers = [numpy_helper.from_array(array, name) for name, array in weights]
    return h.make_graph(nodes, "torch-jit-export", inputs, [value("prob_1", [batch, 3])], initializers)


def save(name, graph, opset, producer, version):
    model = h.make_model(graph, producer_name=producer, producer_version=version)
    del model.opset_import[:]
    model.opset_import.extend([h.make_opsetid("", opset)])
    onnx.checker.check_model(model)
    assert model.ir_version == 3, model.ir_version
    folder = os.path.join(HERE, name)
    if not os.path.isdir(folder):
        os.mkdir(folder)
    onnx.save(model, os.path.join(folder, "model.onnx"))


def main():
    assert onnx.__version__ == "1.3.0", onnx.__version__
    # PyTorch of 2018 wrote the batch size of its example; Caffe2's converter wrote its name alone.
    save("from_2018_pytorch", network(1), 7, "pytorch", "0.4")
    save("from_2018_caffe2", network("N"), 8, "onnx-caffe2", "")


if __name__ == "__main__":
    main()
