"""The contract on every request: what does not fit is told with signature, field, what the contract says and what came; so it is of answers."""

import grpc

import support
from support import Server, ServerCase, contract, field, hs, request, write_model

INVALID = grpc.StatusCode.INVALID_ARGUMENT


def tensor(dtype, shape, **values):
    dims = None if shape is None else hs.TensorShapeProto(dim=[hs.TensorShapeProto.Dim(size=size) for size in shape])
    return hs.TensorProto(dtype=dtype, tensor_shape=dims, **values)


class Inputs(ServerCase):
    @classmethod
    def setUpClass(cls):
        # What the function got is what goes out.
        func_main = support.HEADER + "".join(
            f"def {name}({arguments}):\n    return hs.PredictResponse(outputs={{'y': {answer}}})\n"
            for name, arguments, answer in (("rows", "x", "x"), ("open", "x", "x"), ("client", "who", "who"), ("two", "a, b", "b"))
        )
        parts = [field("age", hs.DT_INT32, ()), field("tags", hs.DT_STRING, (-1,))]
        cls.server = cls.serve(
            func_main,
            contract(
                ("rows", [field("x", hs.DT_FLOAT, (-1, 2))], [field("y")]),
                ("open", [field("x", hs.DT_INT64, "unknown")], [field("y")]),
                ("client", [field("who", shape=(-1,), subfields=parts)], [field("y")]),
                ("two", [field("a", hs.DT_BOOL, ()), field("b", hs.DT_STRING)], [field("y")]),
            ),
        )

    def answer(self, name, **inputs):
        return self.server.predict(request(name, **inputs), timeout=10).outputs["y"]

    def refused(self, words, name, **inputs):
        self.assert_status(INVALID, words, lambda: self.answer(name, **inputs))

    def test_names(self):
        truth = tensor(hs.DT_BOOL, (), bool_val=[True])
        self.refused(["signature 'two'", "missing: b", "not in the contract: c", "the contract has: a, b"], "two", a=truth, c=truth)

    def test_dtypes(self):
        wrong = tensor(hs.DT_DOUBLE, (1, 2), double_val=[1, 2])
        self.refused(["signature 'rows'", "x has to be DT_FLOAT, and is DT_DOUBLE"], "rows", x=wrong)
        self.refused(["x has to be DT_FLOAT, and is no dtype"], "rows", x=hs.TensorProto())
        self.refused(["x has to be DT_FLOAT, and is dtype 99"], "rows", x=hs.TensorProto(dtype=99))

    def test_shapes(self):
        for shape, count in (((2,), 2), ((1, 3), 3), ((1, 2, 1), 2), ((), 1)):
            shown = "[" + ", ".join(map(str, shape)) + "]"
            self.refused([f"x has to have the shape [-1, 2], and has {shown}"], "rows", x=tensor(hs.DT_FLOAT, shape, float_val=[1] * count))
        for shape in ((1, 2), (0, 2), (3, 2)):
            given = tensor(hs.DT_FLOAT, shape, float_val=[1] * (2 * shape[0]))
            self.assertEqual(self.answer("rows", x=given), given)

    def test_values_that_are_not_there(self):
        self.refused(["x has the shape [2, 2], which is 4 elements, and holds 5"], "rows", x=tensor(hs.DT_FLOAT, (2, 2), float_val=[1] * 5))
        self.refused(["x is DT_FLOAT and has its values in double_val"], "rows", x=tensor(hs.DT_FLOAT, (1, 2), double_val=[1, 2]))
        self.refused(["x has the shape [1099511627776, 2], which is too large"], "rows", x=tensor(hs.DT_FLOAT, (1 << 40, 2), float_val=[1]))

    def test_what_the_contract_leaves_open_is_not_compared(self):
        for shape in ((), (1,), (1, 1, 1)):
            self.assertEqual(self.answer("open", x=tensor(hs.DT_INT64, shape, int64_val=[7])).tensor_shape.dim.__len__(), len(shape))

    def test_a_tensor_without_a_shape_gets_the_one_of_its_values(self):
        given = tensor(hs.DT_INT64, None, int64_val=[7, 8])
        self.assertEqual(self.answer("open", x=given), tensor(hs.DT_INT64, (2,), int64_val=[7, 8]))
        scalar = self.answer("two", a=tensor(hs.DT_BOOL, None, bool_val=[True]), b=tensor(hs.DT_STRING, None, string_val=[b"s"]))
        self.assertTrue(scalar.HasField("tensor_shape"))
        self.assertEqual(len(scalar.tensor_shape.dim), 0)

    def test_maps_are_compared_part_by_part(self):
        def client(**parts):
            return tensor(hs.DT_MAP, (1,), map_val=[hs.MapTensorData(subtensors=parts)])

        age, tags = tensor(hs.DT_INT32, (), int_val=[30]), tensor(hs.DT_STRING, (2,), string_val=[b"a", b"b"])
        self.assertEqual(self.answer("client", who=client(age=age, tags=tags)), client(age=age, tags=tags))
        self.refused(["who[0]: missing: tags"], "client", who=client(age=age))
        self.refused(["who[0]: not in the contract: name"], "client", who=client(age=age, tags=tags, name=tags))
        self.refused(["who[0].age has to be DT_INT32, and is DT_STRING"], "client", who=client(age=tags, tags=tags))
        self.refused(["who[0].tags has to have the shape [-1], and has []"], "client", who=client(age=age, tags=tensor(hs.DT_STRING, (), string_val=[b"a"])))
        self.refused(["who has to be DT_MAP, and is DT_INT32"], "client", who=age)

    def test_bytes_that_are_no_request(self):
        call = self.server.channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        self.assert_status(INVALID, "no hydrosphere.tensorflow.serving.PredictRequest", lambda: call(b"\xff\xff", timeout=10))

    def test_no_answer_waits_for_what_was_refused(self):
        self.refused(["missing: x"], "rows")
        self.assertEqual(self.answer("rows", x=tensor(hs.DT_FLOAT, (0, 2))), tensor(hs.DT_FLOAT, (0, 2)))


class Outputs(ServerCase):
    FUNC_MAIN = support.HEADER + """
ANSWERS = {
    0: hs.TensorProto(dtype=hs.DT_INT64, int64_val=[1], tensor_shape=hs.TensorShapeProto(dim=[hs.TensorShapeProto.Dim(size=1)])),
    1: hs.TensorProto(dtype=hs.DT_INT32, int_val=[1], tensor_shape=hs.TensorShapeProto(dim=[hs.TensorShapeProto.Dim(size=1)])),
    2: hs.TensorProto(dtype=hs.DT_INT64, int64_val=[1], tensor_shape=hs.TensorShapeProto()),
    3: hs.TensorProto(dtype=hs.DT_INT64, int64_val=[1, 2], tensor_shape=hs.TensorShapeProto(dim=[hs.TensorShapeProto.Dim(size=1)])),
}

def infer(which):
    which = which.int64_val[0]
    if which in ANSWERS:
        return hs.PredictResponse(outputs={"y": ANSWERS[which]}, internal_info={"took": ANSWERS[0]})
    return hs.PredictResponse(outputs={"z": ANSWERS[0]})
"""
    CONTRACT = contract(("infer", [field("which", hs.DT_INT64, ())], [field("y", hs.DT_INT64, (-1,))]))

    def answer(self, server, which):
        return server.predict(request(which=tensor(hs.DT_INT64, (), int64_val=[which])), timeout=10)

    def test_an_answer_that_does_not_fit_is_the_models_fault_and_in_the_log(self):
        write_model(self.folder, self.FUNC_MAIN, self.CONTRACT)
        expected = {
            1: "y has to be DT_INT64, and is DT_INT32",
            2: "y has to have the shape [-1], and has []",
            3: "y has the shape [1], which is 1 elements, and holds 2",
            4: "missing: y; not in the contract: z",
        }
        with Server(self.folder) as server:
            self.assertEqual(list(self.answer(server, 0).outputs["y"].int64_val), [1])
            for which, words in expected.items():
                self.assert_status(
                    grpc.StatusCode.INTERNAL, ["outputs of the model do not fit signature 'infer'", words], lambda: self.answer(server, which)
                )
            server.stop()
            for words in expected.values():
                self.assertIn(words, server.log)

    def test_what_is_beside_the_outputs_goes_along(self):
        write_model(self.folder, self.FUNC_MAIN, self.CONTRACT)
        with Server(self.folder) as server:
            self.assertEqual(list(self.answer(server, 0).internal_info), ["took"])

    def test_by_names_only_as_the_ancestor_did(self):
        write_model(self.folder, self.FUNC_MAIN, self.CONTRACT)
        with Server(self.folder, LAMINA_CHECK="names") as server:
            self.assertEqual(self.answer(server, 1).outputs["y"].dtype, hs.DT_INT32)
            self.assertEqual(list(server.predict(request(which=hs.TensorProto(dtype=hs.DT_DOUBLE, int64_val=[0])), timeout=10).outputs), ["y"])
            self.assertEqual(list(self.answer(server, 4).outputs), ["z"])
            self.assert_status(INVALID, "missing: which", lambda: server.predict(request(), timeout=10))
            server.stop()
            self.assertIn("missing: y; not in the contract: z", server.log)
