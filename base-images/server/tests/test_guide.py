"""The guide's examples, run as they are written there."""

import json
import os
import re
import subprocess

import support
from support import Server, ServerCase, write_model

GUIDE = os.path.join(support.REPOSITORY, "docs", "guides", "python-runtime.md")


class Guide(ServerCase):
    def setUp(self):
        super().setUp()
        with open(GUIDE, encoding="utf-8") as file:
            self.text = file.read()

    def block(self, kind):
        found = re.findall(rf"^```{kind}\n(.*?)^```$", self.text, re.MULTILINE | re.DOTALL)
        self.assertEqual(len(found), 1, kind)
        return found[0]

    def encoded_contract(self):
        return subprocess.run(
            ["protoc", "-I", support.PROTO, "--encode", "hydrosphere.contract.ModelContract", "hydro_serving_grpc/contract/model_contract.proto"],
            input=self.block("prototxt").encode(), stdout=subprocess.PIPE, check=True,
        ).stdout

    def test_both_ways_of_calling_answer_as_the_guide_says(self):
        path, body = re.search(r"-d '(?P<body>.*)' localhost:9092(?P<path>\S+)", self.block("sh")).group("path", "body")
        for calling in ("tensor_proto", "numpy"):
            write_model(self.folder, self.block(f"python {calling}"), self.encoded_contract())
            with Server(self.folder, LAMINA_CALLING=calling) as server:
                self.assertEqual(server.http("POST", path, body.encode()), (200, json.loads(self.block("json"))))

    def test_the_message_for_the_wrong_way_is_the_guides(self):
        write_model(self.folder, self.block("python numpy").replace("PRICES.get(city, 1.0) * rooms", "rooms"), self.encoded_contract())
        with Server(self.folder) as server:
            status, document = server.http("POST", "/predict/price", {"rooms": [1], "city": "Oslo"})
        self.assertEqual((status, document["error"]), (500, self.block("text").strip()))
