"""Reflection: what a tool that knows nothing but the protocol learns, and calls."""

import os

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

import support
from support import ServerCase

VERSIONS = ("v1", "v1alpha")


class Tool:
    """Knows proto/grpc/reflection, and asks for the rest."""

    def __init__(self, version, channel):
        self._package = f"grpc.reflection.{version}"
        with open(os.path.join(support.TREE, "lamina_runtime", "descriptors.bin"), "rb") as file:
            known = descriptor_pb2.FileDescriptorSet.FromString(file.read()).file
        pool = descriptor_pool.DescriptorPool()
        for proto in known:
            if proto.name == f"grpc/reflection/{version}/reflection.proto":
                pool.AddSerializedFile(proto.SerializeToString())
        self.request = message_class(pool, f"{self._package}.ServerReflectionRequest")
        response = message_class(pool, f"{self._package}.ServerReflectionResponse")
        self._stream = channel.stream_stream(
            f"/{self._package}.ServerReflection/ServerReflectionInfo",
            request_serializer=self.request.SerializeToString, response_deserializer=response.FromString,
        )

    def ask(self, *requests):
        return list(self._stream(iter([self.request(**request) for request in requests]), timeout=10))


def message_class(pool, name):
    descriptor = pool.FindMessageTypeByName(name)
    newer = getattr(message_factory, "GetMessageClass", None)
    return newer(descriptor) if newer else message_factory.MessageFactory(pool).GetPrototype(descriptor)


class Reflection(ServerCase):
    @classmethod
    def setUpClass(cls):
        cls.server = cls.serve(support.HEADER + support.INFER, support.ONE_SIGNATURE)

    def test_the_services_are_listed(self):
        for version in VERSIONS:
            (answer,) = Tool(version, self.server.channel).ask({"list_services": "*"})
            self.assertEqual(
                [service.name for service in answer.list_services_response.service],
                ["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection",
                 "hydrosphere.serving.runtime.PredictionService", "tensorflow.serving.PredictionService"],
            )

    def test_a_tool_can_call_what_it_was_told(self):
        for version in VERSIONS:
            for service, model_spec in (("tensorflow.serving.PredictionService", True), ("hydrosphere.serving.runtime.PredictionService", False)):
                with self.subTest(version, service=service):
                    (answer,) = Tool(version, self.server.channel).ask({"file_containing_symbol": f"{service}.Predict"})
                    pool = descriptor_pool.DescriptorPool()
                    # Imported files come after those that import them.
                    for encoded in reversed(answer.file_descriptor_response.file_descriptor_proto):
                        self.add(pool, encoded, answer)
                    method = pool.FindServiceByName(service).methods_by_name["Predict"]
                    request = message_class(pool, method.input_type.full_name)()
                    if model_spec:
                        request.model_spec.signature_name = "infer"
                    request.inputs["x"].dtype = 2
                    request.inputs["x"].double_val.append(4.5)
                    call = self.server.channel.unary_unary(
                        f"/{service}/Predict", request_serializer=lambda message: message.SerializeToString(),
                        response_deserializer=message_class(pool, method.output_type.full_name).FromString,
                    )
                    self.assertEqual(list(call(request, timeout=10).outputs["y"].double_val), [4.5])

    def add(self, pool, encoded, answer):
        """With all that it imports, which has to be in the answer."""
        by_name = {}
        for one in answer.file_descriptor_response.file_descriptor_proto:
            proto = descriptor_pb2.FileDescriptorProto.FromString(one)
            by_name[proto.name] = proto
        proto = descriptor_pb2.FileDescriptorProto.FromString(encoded)
        for name in proto.dependency:
            self.add(pool, by_name[name].SerializeToString(), answer)
        pool.AddSerializedFile(encoded)

    def test_one_stream_takes_many_questions(self):
        for version in VERSIONS:
            answers = Tool(version, self.server.channel).ask(
                {"file_by_filename": "grpc/health/v1/health.proto"},
                {"file_by_filename": "no/such.proto"},
                {"file_containing_symbol": "no.such.Symbol"},
                {"all_extension_numbers_of_type": "hydrosphere.tensorflow.TensorProto"},
                {},
            )
            self.assertEqual(len(answers[0].file_descriptor_response.file_descriptor_proto), 1)
            self.assertEqual([answer.error_response.error_code for answer in answers[1:]], [5, 5, 0, 3])
            self.assertEqual(answers[3].all_extension_numbers_response.base_type_name, "hydrosphere.tensorflow.TensorProto")
            self.assertEqual(answers[1].original_request.file_by_filename, "no/such.proto")
