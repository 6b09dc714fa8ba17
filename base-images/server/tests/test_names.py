"""The names that seed-era models and scripts import, and the bytes that their contracts have."""

import importlib
import os
import subprocess
import unittest

import support
from support import hs

# What a client of the seed era sends for the example's contract, and what the image then holds: fixed by others, years ago.
CLIENT_BYTES = bytes.fromhex(
    "12370a05696e66657212180a01781211120b08ffffffffffffffffff011202080220021a140a0179120d120b08ffffffffffffffffff012002"
)
IMAGE_BYTES = bytes.fromhex("0a116c696e6561725f72656772657373696f6e") + CLIENT_BYTES

MODULES = [
    "contract.model_contract_pb2", "contract.model_field_pb2", "contract.model_signature_pb2",
    "tf.types_pb2", "tf.tensor_pb2", "tf.tensor_shape_pb2",
    "tf.api.model_pb2", "tf.api.predict_pb2", "tf.api.prediction_service_pb2", "tf.api.prediction_service_pb2_grpc",
]

DATA_TYPES = {
    "INVALID": 0, "FLOAT": 1, "DOUBLE": 2, "INT32": 3, "UINT8": 4, "INT16": 5, "INT8": 6, "STRING": 7, "COMPLEX64": 8, "INT64": 9, "BOOL": 10,
    "QINT8": 11, "QUINT8": 12, "QINT32": 13, "BFLOAT16": 14, "QINT16": 15, "QUINT16": 16, "UINT16": 17, "COMPLEX128": 18, "HALF": 19,
    "RESOURCE": 20, "VARIANT": 21, "UINT32": 22, "UINT64": 23, "MAP": 27,
}


class Names(unittest.TestCase):
    def test_every_module_of_the_seed_era_is_there(self):
        for name in MODULES:
            with self.subTest(name):
                importlib.import_module(f"hydro_serving_grpc.{name}")

    def test_every_data_type_is_at_the_top_level(self):
        self.assertEqual({name: getattr(hs, f"DT_{name}") for name in DATA_TYPES}, DATA_TYPES)
        self.assertEqual({f"DT_{name}": number for name, number in DATA_TYPES.items()}, dict(hs.DataType.items()))

    def test_every_message_is_at_the_top_level(self):
        for name in ("ModelContract", "ModelSignature", "ModelField", "TensorProto", "TensorShapeProto", "ModelSpec", "PredictRequest",
                     "PredictResponse", "PredictionServiceStub", "PredictionServiceServicer", "add_PredictionServiceServicer_to_server"):
            self.assertTrue(hasattr(hs, name), name)
        self.assertIs(hs.contract.model_contract_pb2.ModelContract, hs.ModelContract)
        self.assertIs(hs.tf.tensor_pb2.TensorProto, hs.TensorProto)

    def test_profile_is_field_10(self):
        self.assertEqual(hs.ModelField(profile=2).SerializeToString(), b"\x50\x02")


class GoldenBytes(unittest.TestCase):
    def setUp(self):
        with open(os.path.join(support.EXAMPLE, "contract.prototxt"), encoding="utf-8") as file:
            self.text = file.read()

    def encode(self, text):
        return subprocess.run(
            ["protoc", "-I", support.PROTO, "--encode", "hydrosphere.contract.ModelContract", "hydro_serving_grpc/contract/model_contract.proto"],
            input=text.encode(), stdout=subprocess.PIPE, check=True,
        ).stdout

    def test_the_example_is_what_clients_sent(self):
        self.assertEqual(self.encode(self.text), CLIENT_BYTES)

    def test_the_example_is_what_images_held(self):
        self.assertEqual(self.encode('model_name: "linear_regression"\n' + self.text), IMAGE_BYTES)

    def test_the_runtime_writes_the_same(self):
        self.assertEqual(hs.ModelContract.FromString(IMAGE_BYTES).SerializeToString(), IMAGE_BYTES)
