"""The 3.x releases: their service, their messages, their contract."""

import grpc

import support
from support import Server, ServerCase, contract, field, hs, request, write_model
from hydro_serving_grpc.serving.contract import field_pb2, signature_pb2, tensor_pb2, types_pb2
from hydro_serving_grpc.serving.runtime import api_pb2, api_pb2_grpc


def bare_field(name, dtype, dims=None):
    message = field_pb2.ModelField(name=name, dtype=dtype)
    if dims is not None:
        message.shape.SetInParent()
        message.shape.dims.extend(dims)
    return message


def bare_contract(name="infer", dims=(-1, 2)):
    inputs, outputs = [bare_field("x", types_pb2.DT_DOUBLE, dims)], [bare_field("y", types_pb2.DT_DOUBLE)]
    return signature_pb2.ModelSignature(signature_name=name, inputs=inputs, outputs=outputs).SerializeToString()


def bare(dims, **values):
    return tensor_pb2.Tensor(dtype=types_pb2.DT_DOUBLE, tensor_shape=tensor_pb2.TensorShape(dims=dims), **values)


class Third(ServerCase):
    def ask(self, server, **inputs):
        stub = api_pb2_grpc.PredictionServiceStub(server.channel)
        return stub.Predict(api_pb2.PredictRequest(inputs=inputs), timeout=10).outputs

    def test_both_services_over_a_bare_contract(self):
        write_model(self.folder, encoded_contract=bare_contract())
        with Server(self.folder) as server:
            self.assertEqual(self.ask(server, x=bare([1, 2], double_val=[1, 2]))["y"], bare([1, 2], double_val=[1, 2]))
            sent = hs.TensorProto(
                dtype=hs.DT_DOUBLE, double_val=[1, 2],
                tensor_shape=hs.TensorShapeProto(dim=[hs.TensorShapeProto.Dim(size=1), hs.TensorShapeProto.Dim(size=2)]),
            )
            for name in ("infer", ""):
                self.assertEqual(server.predict(request(name, x=sent), timeout=10).outputs["y"], sent)
            self.assert_status(
                grpc.StatusCode.INVALID_ARGUMENT, "x has to have the shape [-1, 2], and has [2]", lambda: self.ask(server, x=bare([2], double_val=[1, 2]))
            )

    def test_functions_of_the_numpy_convention(self):
        write_model(self.folder, "def infer(x):\n    return {'y': x.sum(axis=1)}\n", bare_contract())
        with Server(self.folder, LAMINA_CALLING="numpy") as server:
            for values in ({"double_val": [1, 2, 3, 4]}, {"binary_val": bytes(16) + b"\0\0\0\0\0\0\xf0\x3f\0\0\0\0\0\0\0\x40"}):
                answer = self.ask(server, x=bare([2, 2], **values))["y"]
                self.assertEqual((list(answer.tensor_shape.dims), answer.double_val[1]), ([2], 7 if "double_val" in values else 3))

    def test_a_request_without_a_name_needs_a_model_with_one_signature(self):
        write_model(self.folder, support.HEADER + support.INFER + "other = infer\n", contract(("infer", ["x"], ["y"]), ("other", ["x"], ["y"])))
        with Server(self.folder) as server:
            self.assert_status(
                grpc.StatusCode.INVALID_ARGUMENT, ["names no signature", "infer, other"], lambda: self.ask(server, x=bare([], double_val=[1]))
            )

    def test_maps_and_scalars_and_shapes_that_are_not_there(self):
        who = field("x", shape=(), subfields=[field("a", hs.DT_DOUBLE, ()), field("b", hs.DT_DOUBLE)])
        write_model(self.folder, encoded_contract=contract(("infer", [who], [field("y")])))
        parts = {"a": bare([], double_val=[1]), "b": bare([2], double_val=[1, 2])}
        sent = tensor_pb2.Tensor(dtype=types_pb2.DT_MAP, map_val=[tensor_pb2.MapTensorData(subtensors=parts)])
        with Server(self.folder) as server:
            answer = self.ask(server, x=sent)["y"]
        self.assertTrue(answer.HasField("tensor_shape"))
        self.assertEqual(dict(answer.map_val[0].subtensors), parts)

    def test_what_is_not_of_3_x_is_left_out(self):
        # Field 15, of the seed era's variants, and one that nobody knows, with bytes that are no message.
        sent = tensor_pb2.Tensor.FromString(bare([], double_val=[4]).SerializeToString() + b"\x7a\x02\xff\xff" + b"\xa2\x06\x01\xff")
        write_model(self.folder)
        with Server(self.folder) as server:
            self.assertEqual(self.ask(server, x=sent)["y"], bare([], double_val=[4]))

    def test_a_dtype_that_3_x_does_not_have(self):
        func_main = support.HEADER + "def infer(x):\n    return hs.PredictResponse(outputs={'y': hs.TensorProto(dtype=hs.DT_BFLOAT16, half_val=[1])})\n"
        write_model(self.folder, func_main, contract(("infer", ["x"], [field("y", hs.DT_BFLOAT16)])))
        with Server(self.folder) as server:
            self.assert_status(grpc.StatusCode.INTERNAL, ["DT_BFLOAT16 in y"], lambda: self.ask(server, x=bare([], double_val=[1])))

    def test_modules_that_are_not_here_come_from_the_models_own_copy(self):
        write_model(
            self.folder,
            "import hydro_serving_grpc.serving.gateway.api_pb2 as gateway\nfrom hydro_serving_grpc.serving.contract.tensor_pb2 import TensorShape\n"
            "print('gateway is', gateway.WHOSE, TensorShape.DESCRIPTOR.full_name)\n" + support.HEADER + support.INFER,
            files={
                "lib/hydro_serving_grpc/__init__.py": b"raise ImportError('an old copy that pip brought')\n",
                "lib/hydro_serving_grpc/serving/__init__.py": b"raise ImportError('an old copy that pip brought')\n",
                "lib/hydro_serving_grpc/serving/gateway/__init__.py": b"",
                "lib/hydro_serving_grpc/serving/gateway/api_pb2.py": b"WHOSE = 'the model\\'s'\n",
            },
        )
        with Server(self.folder) as server:
            self.assertIn("gateway is the model's hydrosphere.serving.contract.TensorShape", server.log)
