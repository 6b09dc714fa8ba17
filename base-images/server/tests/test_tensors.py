"""TensorProto ⇄ array: every dtype, both forms, each way; and what makes no tensor."""

import unittest

import numpy as np

from support import hs
from lamina_runtime import dtypes, tensors

NUMBERS = [dtype for dtype in dtypes.BY_NUMBER.values() if dtype.memory is not None]
SHAPES = [(), (0,), (3,), (2, 0, 3), (2, 3), (40, 7)]


def shaped(dtype, shape, **values):
    dims = [hs.TensorShapeProto.Dim(size=size) for size in shape]
    return hs.TensorProto(dtype=dtype, tensor_shape=hs.TensorShapeProto(dim=dims), **values)


def content(dtype, shape):
    """All kinds of bits, the same in each run; for bools those that are some."""
    generator = np.random.default_rng(dtype.number)
    raw = generator.integers(0, 2 if dtype.memory.kind == "b" else 256, int(np.prod(shape)) * dtype.memory.itemsize, np.uint8)
    return shaped(dtype.number, shape, tensor_content=raw.tobytes())


class Numbers(unittest.TestCase):
    def test_content_becomes_an_array_and_the_array_a_list_of_the_same_values(self):
        for dtype in NUMBERS:
            for shape in SHAPES:
                with self.subTest(dtype.name, shape=shape):
                    array = tensors.to_array(content(dtype, shape))
                    self.assertEqual((array.shape, array.dtype), (shape, dtype.array))
                    self.assertTrue(array.flags.writeable)
                    listed = tensors.from_array(array, dtype.number)
                    self.assertEqual((listed.dtype, listed.tensor_content), (dtype.number, b""))
                    # Signalling NaNs are among the bits.
                    with np.errstate(invalid="ignore"):
                        np.testing.assert_array_equal(tensors.to_array(listed), array)

    def test_lists_are_those_that_protobuf_itself_makes(self):
        for dtype in NUMBERS:
            if dtype.bits or dtype.numbers > 1:
                continue
            with self.subTest(dtype.name):
                array = np.array([0, 1, 1, 0]).astype(dtype.array)
                expected = shaped(dtype.number, (2, 2), **{dtype.values: array.tolist()})
                self.assertEqual(tensors.from_array(array.reshape(2, 2), dtype.number), expected)

    def test_halves_bfloat16_and_complex_are_laid_out_as_tensorflow_does(self):
        self.assertEqual(list(tensors.from_array(np.float16([1, -2.5])).half_val), [0x3C00, 0xC100])
        self.assertEqual(list(tensors.from_array(np.float32([1, -2]), hs.DT_BFLOAT16).half_val), [0x3F80, 0xC000])
        self.assertEqual(list(tensors.from_array(np.complex64([1 + 2j, -1j])).scomplex_val), [1, 2, 0, -1])
        self.assertEqual(list(tensors.from_array(np.complex128([1 + 2j])).dcomplex_val), [1, 2])

    def test_a_float_goes_to_the_nearest_bfloat16(self):
        # Halfway: to the even one; a NaN stays one, whatever its bits.
        given = np.array([0x3F808000, 0x3F818000, 0x3F808001, 0x7FFFFFFF, 0x7F800000, 0xFF7FFFFF], np.uint32).view(np.float32)
        self.assertEqual(
            list(tensors.from_array(given, hs.DT_BFLOAT16).half_val), [0x3F80, 0x3F82, 0x3F81, 0x7FC0, 0x7F80, 0xFF80]
        )

    def test_the_byte_order_and_the_layout_of_an_array_are_nothing(self):
        array = np.arange(6, dtype="<f8").reshape(2, 3)
        for same in (array.astype(">f8"), np.asfortranarray(array), np.repeat(array, 2, axis=1)[:, ::2]):
            self.assertEqual(tensors.from_array(same), tensors.from_array(array))
        self.assertEqual(list(tensors.from_array(np.array([258], ">i4")).int_val), [258])

    def test_a_list_that_ends_early_goes_on_with_its_last_element(self):
        self.assertEqual(tensors.to_array(shaped(hs.DT_FLOAT, (1, 3), float_val=[1, 2])).tolist(), [[1, 2, 2]])
        self.assertEqual(tensors.to_array(shaped(hs.DT_STRING, (3,), string_val=[b"a"])).tolist(), [b"a"] * 3)
        self.assertEqual(tensors.to_array(shaped(hs.DT_INT64, (2,))).tolist(), [0, 0])
        self.assertEqual(tensors.to_array(shaped(hs.DT_STRING, (1,))).tolist(), [b""])

    def test_without_a_shape_the_values_say_it(self):
        one, two = hs.TensorProto(dtype=hs.DT_INT32, int_val=[7]), hs.TensorProto(dtype=hs.DT_INT32, int_val=[7, 8])
        self.assertEqual([tensors.shape_of(one), tensors.shape_of(one, rank=0), tensors.shape_of(one, rank=1)], [(), (), (1,)])
        self.assertEqual([tensors.shape_of(two), tensors.shape_of(two, rank=1)], [(2,), (2,)])
        unknown = hs.TensorProto(dtype=hs.DT_INT32, int_val=[7, 8], tensor_shape=hs.TensorShapeProto(unknown_rank=True))
        self.assertEqual(tensors.shape_of(unknown), (2,))

    def test_what_protobuf_does_not_know_does_not_hide_a_list(self):
        # Field 100 as fixed32 and as a varint, before and after the values.
        values = shaped(hs.DT_DOUBLE, (2,), double_val=[1, 2]).SerializeToString()
        for unknown in (b"\xa5\x06abcd", b"\xa0\x06\x01", b"\xa0\x06\x01" * 100):
            for encoded in (unknown + values, values + unknown):
                self.assertEqual(tensors.to_array(hs.TensorProto.FromString(encoded)).tolist(), [1, 2])

    def test_an_array_of_bfloat16_by_its_name(self):
        class Named:
            name = "bfloat16"

        class Array:
            dtype = Named

        self.assertEqual(tensors.dtype_of_array(Array).name, "DT_BFLOAT16")


class Strangers(unittest.TestCase):
    def refused(self, tensor, *words):
        with self.assertRaises(tensors.TensorError) as raised:
            tensors.to_array(tensor)
        for word in words:
            self.assertIn(word, str(raised.exception))

    def test_values_and_shape_have_to_agree(self):
        self.refused(shaped(hs.DT_FLOAT, (2,), float_val=[1, 2, 3]), "[2]", "2 elements", "holds 3")
        self.refused(shaped(hs.DT_FLOAT, (2,), tensor_content=bytes(4)), "2 elements", "holds 1")
        self.refused(shaped(hs.DT_FLOAT, (1,), tensor_content=bytes(5)), "5 bytes", "DT_FLOAT")
        self.refused(shaped(hs.DT_FLOAT, (2, -1), float_val=[1]), "[2, -1]", "no tensor has")
        self.refused(shaped(hs.DT_FLOAT, (1,) * 255, float_val=[1]), "no tensor has")
        self.refused(shaped(hs.DT_FLOAT, (1,) * 100, float_val=[1]), "NumPy does not take")
        self.refused(shaped(hs.DT_MAP, (2,), map_val=[hs.MapTensorData()]), "2 elements", "holds 1")

    def test_a_shape_is_not_believed(self):
        for shape in ((1 << 40,), (1 << 62, 1 << 62), (1 << 15, 1 << 15)):
            self.refused(shaped(hs.DT_FLOAT, shape, float_val=[1]), "too large")
        self.refused(shaped(hs.DT_STRING, (1 << 26,), string_val=[b"a"]), "too large")

    def test_values_in_another_list_are_told(self):
        self.refused(shaped(hs.DT_DOUBLE, (1,), float_val=[1]), "DT_DOUBLE", "float_val", "double_val is read")
        self.refused(shaped(hs.DT_STRING, (1,), tensor_content=b"a"), "DT_STRING", "tensor_content")

    def test_dtypes_without_values(self):
        self.refused(hs.TensorProto(), "no dtype")
        self.refused(hs.TensorProto(dtype=99), "dtype 99")
        self.refused(hs.TensorProto(dtype=dtypes.DT_ANY), "DT_ANY")
        self.refused(shaped(hs.DT_RESOURCE, ()), "DT_RESOURCE")
        self.refused(shaped(hs.DT_VARIANT, (), variant_val=[hs.VariantTensorDataProto()]), "DT_VARIANT")

    def test_values_that_the_dtype_cannot_have(self):
        self.refused(shaped(hs.DT_INT8, (1,), int_val=[128]), "-128 to 127")
        self.refused(shaped(hs.DT_QUINT16, (1,), int_val=[-1]), "0 to 65535")
        self.refused(shaped(hs.DT_HALF, (1,), half_val=[1 << 16]), "0 to 65535")

    def test_arrays_that_make_no_tensor(self):
        for array, word in ((np.array(["1999"], "M8[s]"), "datetime64"), (np.longdouble([1]), "float128"), (np.array([object()]), "object")):
            with self.assertRaises(tensors.TensorError) as raised:
                tensors.from_array(array)
            self.assertIn(word, str(raised.exception))
