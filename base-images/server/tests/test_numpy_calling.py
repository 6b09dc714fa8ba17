"""The calling convention of 2.3 and later: arrays in, a dict of arrays out."""

import grpc
import numpy as np

import support
from support import Server, ServerCase, contract, field, hs, request, write_model
from lamina_runtime import dtypes, tensors

INVALID, INTERNAL, OUT_OF_RANGE = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.INTERNAL, grpc.StatusCode.OUT_OF_RANGE
NUMBERS = [dtype for dtype in dtypes.BY_NUMBER.values() if dtype.memory is not None]


def text_tensor(shape, *values):
    dims = [hs.TensorShapeProto.Dim(size=size) for size in shape]
    return hs.TensorProto(dtype=hs.DT_STRING, string_val=values, tensor_shape=hs.TensorShapeProto(dim=dims))


class EveryDtype(ServerCase):
    """One signature for each dtype; the functions tell what they got, and give it back."""

    @classmethod
    def setUpClass(cls):
        names = [dtype.name.lower() for dtype in NUMBERS]
        func_main = "".join(f"def {name}(x): return {{'y': x, 'got': f'{{type(x).__name__}} {{x.dtype}}'}}\n" for name in names)
        signatures = [
            (name, [field("x", dtype.number)], [field("y", dtype.number), field("got", hs.DT_STRING, ())]) for name, dtype in zip(names, NUMBERS)
        ]
        cls.server = cls.serve(func_main, contract(*signatures), LAMINA_CALLING="numpy")

    def test_there_and_back(self):
        for dtype in NUMBERS:
            for shape in ((), (0,), (2, 3)):
                with self.subTest(dtype.name, shape=shape):
                    array = np.arange(int(np.prod(shape))).reshape(shape).astype(dtype.array)
                    sent = tensors.from_array(array, dtype.number)
                    outputs = self.server.predict(request(dtype.name.lower(), x=sent), timeout=10).outputs
                    self.assertEqual(outputs["y"], sent)
                    kind = "ndarray" if shape else dtype.array.type.__name__
                    self.assertEqual(outputs["got"].string_val, [f"{kind} {dtype.array}".encode()])


FUNC_MAIN = """
import numpy as np

def strings(x):
    first = x if np.ndim(x) == 0 else x.flat[0]
    return {"y": x, "kind": f"{np.ndim(x)} {type(first).__name__}"}

def maps(who):
    return {"y": {"ages": np.array([one["age"] for one in who], np.int32), "first": who[0]["name"]}, "all": [{"name": one["name"]} for one in who]}

def changes(x):
    x += 1
    return {"y": x}

def plain(x):
    return {"y": 1, "z": [[1, 2], [3, 4]], "t": ["a", b"\\xff\\0"], "b": True}

COUNT = {"calls": 0}

def counts(x):
    COUNT["calls"] += 1
    return {"y": np.int64(COUNT["calls"])}

def answers(which):
    import hydro_serving_grpc as hs
    return {
        0: lambda: None,
        1: lambda: hs.PredictResponse(),
        2: lambda: {"y": object()},
        3: lambda: {"y": None},
        4: lambda: {"y": [[1, 2], [3]]},
        5: lambda: {1: 2},
        6: lambda: {"y": np.float64([1])},
        7: lambda: {"y": 300},
        8: lambda: {"y": which.double_val},
        9: lambda: {"y": hs.TensorProto(dtype=hs.DT_INT8, int_val=[7], tensor_shape=hs.TensorShapeProto())},
        10: lambda: {"y": 1.5},
    }[int(which)]()
"""
INT8 = field("y", hs.DT_INT8, ())
WHO = field("who", shape=(-1,), subfields=[field("age", hs.DT_INT32, ()), field("name", hs.DT_STRING, ())])
SIGNATURES = (
    ("strings", [field("x", hs.DT_STRING)], [field("y", hs.DT_STRING), field("kind", hs.DT_STRING)]),
    (
        "maps", [WHO],
        [field("y", shape=(), subfields=[field("ages", hs.DT_INT32, (-1,)), field("first", hs.DT_STRING, ())]),
         field("all", shape=(-1,), subfields=[field("name", hs.DT_STRING, ())])],
    ),
    ("changes", [field("x", hs.DT_FLOAT)], [field("y", hs.DT_FLOAT)]),
    (
        "plain", [field("x", hs.DT_FLOAT)],
        [field("y", hs.DT_UINT8, ()), field("z", hs.DT_FLOAT, (2, 2)), field("t", hs.DT_STRING, (2,)), field("b", hs.DT_BOOL, ())],
    ),
    ("counts", [field("x", hs.DT_FLOAT)], [field("y", hs.DT_INT64, ())]),
    ("answers", [field("which", hs.DT_INT64, ())], [INT8]),
)


class Values(ServerCase):
    @classmethod
    def setUpClass(cls):
        cls.server = cls.serve(FUNC_MAIN, contract(*SIGNATURES), LAMINA_CALLING="numpy")

    def ask(self, name, **inputs):
        return self.server.predict(request(name, **inputs), timeout=10).outputs

    def test_strings_are_text_or_bytes_all_of_them(self):
        for sent, kind in (
            (text_tensor((), "ä".encode()), "0 str_"),
            (text_tensor((2,), "ä".encode(), b""), "1 str_"),
            (text_tensor((2,), b"zero at the end\0", b""), "1 str"),
            (text_tensor((2,), b"\xff\xd8", b"text"), "1 bytes"),
            (text_tensor((), b"\xff\xd8\0"), "0 bytes"),
            (text_tensor((2,), b"x" * (4 << 20), b""), "1 str"),
        ):
            outputs = self.ask("strings", x=sent)
            self.assertEqual(outputs["y"], sent)
            self.assertEqual(outputs["kind"].string_val, [kind.encode()])

    def test_maps_are_dicts(self):
        people = [hs.MapTensorData(subtensors={"age": tensors.from_array(np.int32(age)), "name": text_tensor((), name)})
                  for age, name in ((30, b"a"), (40, b"b"))]
        shape = hs.TensorShapeProto(dim=[hs.TensorShapeProto.Dim(size=2)])
        outputs = self.ask("maps", who=hs.TensorProto(dtype=hs.DT_MAP, map_val=people, tensor_shape=shape))
        answer = outputs["y"].map_val[0].subtensors
        self.assertEqual(list(answer["ages"].int_val), [30, 40])
        self.assertEqual(answer["first"], text_tensor((), b"a"))
        self.assertEqual([element.subtensors["name"].string_val[0] for element in outputs["all"].map_val], [b"a", b"b"])

    def test_a_function_may_change_its_input(self):
        content = hs.TensorProto(dtype=hs.DT_FLOAT, tensor_content=np.float32([1, 2]).tobytes())
        for sent in (content, tensors.from_array(np.float32([1, 2]))):
            self.assertEqual(list(self.ask("changes", x=sent)["y"].float_val), [2, 3])

    def test_what_has_no_dtype_takes_the_contracts(self):
        outputs = self.ask("plain", x=tensors.from_array(np.float32(0)))
        self.assertEqual((outputs["y"].dtype, list(outputs["y"].int_val)), (hs.DT_UINT8, [1]))
        self.assertEqual((outputs["z"].dtype, list(outputs["z"].float_val)), (hs.DT_FLOAT, [1, 2, 3, 4]))
        self.assertEqual(list(outputs["t"].string_val), [b"a", b"\xff\0"])
        self.assertEqual(list(outputs["b"].bool_val), [True])

    def test_the_module_keeps_its_state(self):
        before, after = (self.ask("counts", x=tensors.from_array(np.float32(0)))["y"].int64_val[0] for _ in range(2))
        self.assertEqual(after, before + 1)

    def test_answers_that_are_none(self):
        for which, code, words in (
            (0, OUT_OF_RANGE, ["answers returned builtins.NoneType", "a dict of arrays"]),
            (1, OUT_OF_RANGE, ["PredictResponse", "calls functions in the way numpy", "LAMINA_CALLING=tensor_proto"]),
            (2, OUT_OF_RANGE, ["in which y", "object"]),
            (3, OUT_OF_RANGE, ["in which y is None"]),
            (4, OUT_OF_RANGE, ["in which y is a list whose rows have different lengths"]),
            (5, OUT_OF_RANGE, ["the key 1"]),
            (7, OUT_OF_RANGE, ["in which y has values that are outside of -128 to 127"]),
            (8, INTERNAL, ["has no attribute 'double_val'", "in the way numpy", "LAMINA_CALLING=tensor_proto"]),
            (6, INTERNAL, ["y has to be DT_INT8, and is DT_DOUBLE"]),
            (10, INTERNAL, ["y has to be DT_INT8, and is DT_DOUBLE"]),
            (11, INTERNAL, ["answers failed: KeyError: 11"]),
        ):
            self.assert_status(code, words, lambda: self.ask("answers", which=tensors.from_array(np.int64(which))))

    def test_a_tensor_in_the_dict_is_passed_on(self):
        self.assertEqual(list(self.ask("answers", which=tensors.from_array(np.int64(9)))["y"].int_val), [7])

    def test_a_dimension_too_many_is_the_callers_fault(self):
        dims = [hs.TensorShapeProto.Dim(size=1)] * 65
        many = hs.TensorProto(dtype=hs.DT_FLOAT, float_val=[1], tensor_shape=hs.TensorShapeProto(dim=dims))
        self.assert_status(INVALID, ["x has the shape", "NumPy does not take"], lambda: self.ask("changes", x=many))


class Mistaken(ServerCase):
    def test_a_function_for_arrays_that_gets_messages(self):
        write_model(self.folder, "def infer(x):\n    return {'y': x + 1}\n\ndef other(x):\n    return {'y': x}\n", contract(("infer", ["x"], ["y"]), ("other", ["x"], ["y"])))
        with Server(self.folder) as server:
            for name, code in (("infer", grpc.StatusCode.UNKNOWN), ("other", OUT_OF_RANGE)):
                self.assert_status(
                    code, ["in the way tensor_proto", "LAMINA_CALLING=numpy"], lambda: server.predict(request(name, x=support.tensor(1)), timeout=10)
                )
