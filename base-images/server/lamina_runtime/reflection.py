"""gRPC server reflection, v1 and v1alpha: what grpcurl and its like ask before they call.

The descriptors come from descriptors.bin, which protoc writes when the image is made, and live in a pool of their own: the process-wide one belongs to
the model, which may bring files of the same names (health.py says the same). The messages of the protocol are those of
proto/grpc/reflection. What must stay true: a stream of any length is answered one by one, and nothing of it is kept.
"""

import os

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from lamina_runtime import health

_PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "descriptors.bin")
_PACKAGES = ("grpc.reflection.v1", "grpc.reflection.v1alpha")


def handlers(services):
    """One handler for each version of the protocol; `services` are the names of those that are served besides."""
    with open(_PATH, "rb") as file:
        files = {proto.name: proto for proto in descriptor_pb2.FileDescriptorSet.FromString(file.read()).file}
    pool = descriptor_pool.DescriptorPool()
    # protoc writes a file after those that it imports.
    for proto in files.values():
        pool.AddSerializedFile(proto.SerializeToString())
    symbols = {symbol: name for name, proto in files.items() for symbol in _symbols(proto)}
    names = sorted([*services, health.SERVICE_NAME, *(f"{package}.ServerReflection" for package in _PACKAGES)])
    return [_Reflection(package, names, files, symbols, pool).handler() for package in _PACKAGES]


class _Reflection:
    def __init__(self, package, services, files, symbols, pool):
        self._service = f"{package}.ServerReflection"
        self._services = services
        self._files = files
        self._symbols = symbols
        self._request = _message_class(pool, f"{package}.ServerReflectionRequest")
        self._response = _message_class(pool, f"{package}.ServerReflectionResponse")

    def handler(self):
        stream = grpc.stream_stream_rpc_method_handler(
            self.answer_all, request_deserializer=self._request.FromString, response_serializer=self._response.SerializeToString
        )
        return grpc.method_handlers_generic_handler(self._service, {"ServerReflectionInfo": stream})

    async def answer_all(self, requests, _context):
        async for request in requests:
            yield self._answer(request)

    def _answer(self, request):
        response = self._response(valid_host=request.host, original_request=request)
        asked = request.WhichOneof("message_request")
        try:
            if asked == "list_services":
                response.list_services_response.SetInParent()
                for name in self._services:
                    response.list_services_response.service.add(name=name)
            elif asked == "file_by_filename":
                self._add_files(response, request.file_by_filename)
            elif asked == "file_containing_symbol":
                self._add_files(response, self._symbols[request.file_containing_symbol])
            elif asked == "all_extension_numbers_of_type":
                # Known types without extensions: proto3 has none.
                _ = self._symbols[request.all_extension_numbers_of_type]
                response.all_extension_numbers_response.base_type_name = request.all_extension_numbers_of_type
            else:
                raise KeyError(asked)
        except KeyError:
            code = grpc.StatusCode.INVALID_ARGUMENT if asked is None else grpc.StatusCode.NOT_FOUND
            response.error_response.error_code = code.value[0]
            response.error_response.error_message = "nothing was asked" if asked is None else "there is no such thing here"
        return response

    def _add_files(self, response, name):
        """The file and all that it imports, itself first."""
        response.file_descriptor_response.SetInParent()
        waiting, sent = [name], set()
        while waiting:
            name = waiting.pop(0)
            if name not in sent:
                sent.add(name)
                response.file_descriptor_response.file_descriptor_proto.append(self._files[name].SerializeToString())
                waiting.extend(self._files[name].dependency)


def _symbols(proto):
    """The full names in a file. Of our own, because the pools of protobuf's several implementations do not agree on which they find."""
    scopes = [(proto.package, proto.message_type, proto.enum_type)]
    while scopes:
        scope, messages, enums = scopes.pop()
        for one in enums:
            yield f"{scope}.{one.name}"
        for message in messages:
            name = f"{scope}.{message.name}"
            yield name
            yield from (f"{name}.{field.name}" for field in message.field)
            scopes.append((name, message.nested_type, message.enum_type))
    for service in proto.service:
        name = f"{proto.package}.{service.name}"
        yield name
        yield from (f"{name}.{method.name}" for method in service.method)


def _message_class(pool, name):
    descriptor = pool.FindMessageTypeByName(name)
    # The newer of protobuf's two ways; Debian's has the older one only.
    newer = getattr(message_factory, "GetMessageClass", None)
    return newer(descriptor) if newer else message_factory.MessageFactory(pool).GetPrototype(descriptor)
