"""What the tests share: the runtime's Python folder as the image has it, models in temporary folders, and a running server.

No mocks: a test's server is the image's own entry point in a process of its own, and its client speaks gRPC to it. What must stay true: nothing
is left behind, neither files nor processes.

Run all tests with
    /usr/bin/python3 -B -m unittest discover -s base-images/server/tests
They need Debian's python3-grpcio, python3-protobuf, python3-numpy and protobuf-compiler, or what pip calls grpcio, protobuf and numpy beside
a protoc of 3.20 or 3.21.
"""

import atexit
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import unittest

BASES = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
REPOSITORY = os.path.dirname(BASES)
PROTO = os.path.join(REPOSITORY, "proto")
EXAMPLE = os.path.join(REPOSITORY, "docs", "examples", "linear_regression")

START_TIMEOUT_S = 60


def _make_tree():
    folder = tempfile.mkdtemp(prefix="lamina-runtime-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    subprocess.run(["bash", os.path.join(BASES, "assemble", "python_tree.sh"), PROTO, folder], check=True)
    return folder


TREE = _make_tree()
sys.path.insert(0, TREE)

import grpc  # noqa: E402
import hydro_serving_grpc as hs  # noqa: E402

INFER = "def infer(x):\n    return hs.PredictResponse(outputs={'y': x})\n"
HEADER = "import hydro_serving_grpc as hs\n"


def field(name, dtype=None, shape=None, subfields=()):
    """A field of a contract. shape: None (not stated), "unknown" (rank), or sizes."""
    message = hs.ModelField(name=name)
    if shape is not None:
        message.shape.SetInParent()
        if shape == "unknown":
            message.shape.unknown_rank = True
        else:
            message.shape.dim.extend(hs.TensorShapeProto.Dim(size=size) for size in shape)
    if subfields:
        message.subfields.data.extend(subfields)
    elif dtype is not None:
        message.dtype = dtype
    return message


def contract(*signatures):
    """Each signature: (name, inputs, outputs); a field by its name only is a DT_DOUBLE of any shape."""
    message = hs.ModelContract(model_name="tested")
    for name, inputs, outputs in signatures:
        signature = message.signatures.add(signature_name=name)
        for fields, given in ((signature.inputs, inputs), (signature.outputs, outputs)):
            fields.extend(one if isinstance(one, hs.ModelField) else field(one, hs.DT_DOUBLE) for one in given)
    return message.SerializeToString()


ONE_SIGNATURE = contract(("infer", ["x"], ["y"]))


def write_model(folder, func_main=HEADER + INFER, encoded_contract=ONE_SIGNATURE, files=None):
    """None leaves a part out."""
    contents = dict(files or {})
    if func_main is not None:
        contents["files/src/func_main.py"] = func_main.encode()
    if encoded_contract is not None:
        contents["contract.protobin"] = encoded_contract
    for path, content in contents.items():
        path = os.path.join(folder, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)


def tensor(*values):
    shape = hs.TensorShapeProto(dim=[hs.TensorShapeProto.Dim(size=len(values))])
    return hs.TensorProto(dtype=hs.DT_DOUBLE, tensor_shape=shape, double_val=values)


def request(signature_name="infer", **inputs):
    return hs.PredictRequest(model_spec=hs.ModelSpec(signature_name=signature_name), inputs=inputs)


def command():
    return [sys.executable, "-B", os.path.join(TREE, "serve.py")]


def environment(model_dir, **more):
    # As bare as a container's: what the developer's shell sets must not decide a test.
    return {"PATH": os.environ["PATH"], "MODEL_DIR": model_dir, "APP_PORT": "0", "HTTP_PORT": "0", "LANG": "C.UTF-8", **more}


class ServerCase(unittest.TestCase):
    """With a folder for a model, and a way to expect a status."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="lamina-model-")
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    @classmethod
    def serve(cls, func_main, encoded_contract, **more):
        """A server for all tests of the class."""
        folder = cls.enterClassContext(tempfile.TemporaryDirectory(prefix="lamina-model-"))
        write_model(folder, func_main, encoded_contract)
        return cls.enterClassContext(Server(folder, **more))

    def assert_status(self, code, words, call):
        """`words` are all in the message, wherever."""
        with self.assertRaises(grpc.RpcError) as raised:
            call()
        self.assertEqual(raised.exception.code(), code, raised.exception.details())
        for word in [words] if isinstance(words, str) else words:
            self.assertIn(word, raised.exception.details())


class Server:
    """`with Server(model_dir) as server:` a process that is ready when the block begins and gone when it ends."""

    def __init__(self, model_dir, user=None, **more):
        self._user = user or {}
        self._environment = environment(model_dir, **more)
        self._opened = threading.Event()
        self._connections = []
        self.port = None
        self.http_port = None
        self.log = ""

    def __enter__(self):
        self.process = subprocess.Popen(
            command(), env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **self._user
        )
        # The log is read all the time: a server whose pipe is full waits in its next log line, and all its callers with it.
        self._reader = threading.Thread(target=self._read_log)
        self._reader.start()
        self._opened.wait(START_TIMEOUT_S)
        if self.port is None:
            self._end()
            raise AssertionError(f"the server ended with {self.process.returncode}:\n{self.log}")
        self.channel = grpc.insecure_channel(
            f"127.0.0.1:{self.port}",
            options=[("grpc.max_receive_message_length", 1 << 28), ("grpc.max_send_message_length", 1 << 28)],
        )
        self.predict = hs.PredictionServiceStub(self.channel).Predict
        return self

    def __exit__(self, *_exception):
        for connection in self._connections:
            connection.close()
        self.channel.close()
        self._end()

    def http(self, method, path, body=None, headers=None):
        """(status, document) of one HTTP request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=60)
        self._connections.append(connection)
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())

    def stop(self):
        """As a container engine does it; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(START_TIMEOUT_S)
        self._reader.join()
        return self.process.returncode

    def _end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join()
        self.process.stdout.close()

    def _read_log(self):
        for line in self.process.stdout:
            self.log += line
            opened = re.search(r"HTTP on port (\d+)", line)
            if opened:
                self.http_port = int(opened[1])
            ready = re.search(r"ready on port (\d+)", line)
            if ready:
                self.port = int(ready[1])
                self._opened.set()
        # The process ended, or is about to: a wait for its port would be in vain.
        self._opened.set()
