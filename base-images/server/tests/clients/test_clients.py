"""Clients that no one here wrote: releases of hydro-serving-grpc, and gRPC's own packages for health and reflection, from PyPI.

Apart from the other tests because a package index is needed, with pip's own settings. What must stay true: nothing here is skipped; without an index it
fails.

    /usr/bin/python3 -B -m unittest discover -s base-images/server/tests/clients
"""

import json
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))

import support  # noqa: E402
from support import ServerCase, contract, field, hs  # noqa: E402
from test_third import bare_contract  # noqa: E402

# What a model computes, in each way of being called.
MESSAGES = support.HEADER + """
def infer(x):
    y = hs.TensorProto(dtype=hs.DT_DOUBLE, double_val=[2 * value for value in x.double_val], tensor_shape=x.tensor_shape)
    return hs.PredictResponse(outputs={"y": y})
"""
ARRAYS = "def infer(x):\n    return {'y': 2 * x}\n"
SEED_CONTRACT = contract(("infer", [field("x", hs.DT_DOUBLE, (-1, 2))], [field("y", hs.DT_DOUBLE, (-1, 2))]))


class Clients(ServerCase):
    def ask(self, script, requirements, *arguments):
        packages = tempfile.TemporaryDirectory(prefix="lamina-packages-")
        self.addCleanup(packages.cleanup)
        # Without what they depend on: gRPC and protobuf are here, and what else they name is not for talking to a runtime.
        pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--root-user-action=ignore", "--no-deps", "--target", packages.name]
        subprocess.run([sys.executable, *pip, *requirements], check=True)
        ran = subprocess.run(
            [sys.executable, "-B", os.path.join(HERE, script), packages.name, *arguments], capture_output=True, text=True, timeout=120
        )
        self.assertEqual(ran.returncode, 0, ran.stderr)
        return packages.name, json.loads(ran.stdout)

    def check(self, release, service, server):
        packages, answer = self.ask("old_client.py", [f"hydro-serving-grpc=={release}"], str(server.port), service)
        self.assertTrue(answer.pop("module").startswith(packages))
        self.assertEqual(answer, {"is_double": True, "dims": [2, 2], "values": [2, 4, 6, 8]})

    def test_the_seed_eras_client(self):
        for func_main, calling in ((MESSAGES, "tensor_proto"), (ARRAYS, "numpy")):
            self.check("0.1.1", "SEED", self.serve(func_main, SEED_CONTRACT, LAMINA_CALLING=calling))

    def test_the_client_of_3_0_3(self):
        for func_main, calling in ((MESSAGES, "tensor_proto"), (ARRAYS, "numpy")):
            self.check("3.0.3", "THIRD", self.serve(func_main, bare_contract(), LAMINA_CALLING=calling))
        self.check("3.0.3", "THIRD", self.serve(MESSAGES, SEED_CONTRACT))

    def test_tools_for_health_and_reflection(self):
        server = self.serve(MESSAGES, SEED_CONTRACT)
        _, told = self.ask("tool_client.py", ["grpcio-health-checking==1.51.1", "grpcio-reflection==1.51.1"], str(server.port))
        self.assertEqual(told["health"], 1)
        self.assertEqual(
            told["methods"],
            {
                "grpc.health.v1.Health": [["Check", "grpc.health.v1.HealthCheckRequest"], ["Watch", "grpc.health.v1.HealthCheckRequest"]],
                "hydrosphere.serving.runtime.PredictionService": [["Predict", "hydrosphere.serving.runtime.PredictRequest"]],
                "tensorflow.serving.PredictionService": [
                    ["Predict", "hydrosphere.tensorflow.serving.PredictRequest"], ["Status", "google.protobuf.Empty"]
                ],
            },
        )
