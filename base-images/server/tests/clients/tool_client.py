"""What gRPC's own Python packages for health and reflection make of a runtime; prints it as JSON. Run by test_clients.py, in a process of its own.

usage: tool_client.py PACKAGES PORT
"""

import json
import sys

sys.path.insert(0, sys.argv[1])

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

with grpc.insecure_channel(f"127.0.0.1:{sys.argv[2]}") as channel:
    health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
    database = ProtoReflectionDescriptorDatabase(channel)
    pool = DescriptorPool(database)
    methods = {}
    for service in database.get_services():
        if "reflection" not in service:
            methods[service] = [[method.name, method.input_type.full_name] for method in pool.FindServiceByName(service).methods]
print(json.dumps({"health": health.status, "methods": methods}))
