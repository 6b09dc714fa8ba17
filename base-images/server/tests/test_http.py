"""HTTP: the same predictions as JSON, errors with their status, and strangers who speak badly."""

import contextlib
import json
import socket
import threading
import time

import support
from support import Server, ServerCase, contract, field, hs, tensor, write_model

FUNC_MAIN = support.HEADER + """
import time

def infer(x):
    return hs.PredictResponse(outputs={"y": x})

def slow(x):
    time.sleep(x.double_val[0])
    return hs.PredictResponse(outputs={"y": x})

def raises(x):
    raise ValueError("the weights are gone")

def wrong(x):
    return hs.PredictResponse(outputs={"z": x})

any_kind = maps = half = same = infer
"""
PERSON = [field("age", hs.DT_INT32, ()), field("tags", hs.DT_STRING, (-1,))]
SIGNATURES = [
    ("infer", [field("x", hs.DT_DOUBLE, (-1, 2))], [field("y", hs.DT_DOUBLE, (-1, 2))]),
    ("slow", ["x"], ["y"]),
    ("raises", ["x"], ["y"]),
    ("wrong", ["x"], ["y"]),
    ("any_kind", [field("x")], [field("y")]),
    ("maps", [field("x", shape=(-1,), subfields=PERSON)], [field("y")]),
]
DTYPES = ["FLOAT", "DOUBLE", "HALF", "BFLOAT16", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64", "QINT8", "QINT32", "BOOL",
          "STRING", "COMPLEX64", "COMPLEX128"]
SIGNATURES += [(name, [field("x", hs.DataType.Value(f"DT_{name}"), "unknown")], [field("y")]) for name in DTYPES]
FUNC_MAIN += "".join(f"{name} = infer\n" for name in DTYPES)


class Http(ServerCase):
    @classmethod
    def setUpClass(cls):
        cls.server = cls.serve(FUNC_MAIN, contract(*SIGNATURES))

    def predict(self, name, x):
        return self.server.http("POST", f"/predict/{name}", {"x": x})

    def refused(self, status, words, name, x):
        got, document = self.predict(name, x)
        self.assertEqual(got, status, document)
        self.assertIn(words, document["error"])
        return document

    def test_a_prediction(self):
        self.assertEqual(self.predict("infer", [[1, 2.5], [3, 4]]), (200, {"y": [[1.0, 2.5], [3.0, 4.0]]}))
        self.assertEqual(self.predict("infer", []), (200, {"y": []}))

    def test_values_of_every_dtype_come_back_as_they_went(self):
        for name, values in (
            ("FLOAT", [0.1, 1e-45, 3.4028235e38, "NaN", "Infinity", "-Infinity"]), ("DOUBLE", [0.1, 5e-324, "NaN"]), ("HALF", [0.5, -2.5]),
            ("BFLOAT16", [1.0, -2.0]), ("INT8", [-128, 127]), ("INT16", [-32768, 32767]), ("INT32", [-(1 << 31), (1 << 31) - 1]),
            ("INT64", [-(1 << 63), (1 << 63) - 1]), ("UINT8", [0, 255]), ("UINT16", [65535]), ("UINT32", [(1 << 32) - 1]),
            ("UINT64", [0, (1 << 64) - 1]), ("QINT8", [-1]), ("QINT32", [7]), ("BOOL", [True, False]), ("STRING", ["ü", "", {"b64": "/9g="}]),
            ("COMPLEX64", [[0.1, -2.0], [0.0, "NaN"]]), ("COMPLEX128", [[1.0, 2.0]]),
        ):
            for shaped in (values[0], values, [values, values], [], [[]]):
                if shaped == [[]] and name.startswith("COMPLEX"):
                    continue
                with self.subTest(name, shaped=shaped):
                    self.assertEqual(self.predict(name, shaped), (200, {"y": shaped}))

    def test_values_that_the_dtype_cannot_have(self):
        for name, x, words in (
            ("INT8", [1, [2]], "lists and values beside each other"),
            ("INT8", [[1], [2, 3]], "lists of 1 and of 2 elements"),
            ("INT8", [[0, 128]], "x[0][1] has to be an integer from -128 to 127, and is 128"),
            ("INT8", 1.5, "x has to be an integer, and is 1.5"),
            ("INT64", 1 << 63, "x has to be an integer from"),
            ("UINT64", -1, "and is -1"),
            ("INT8", [True], "x[0] has to be an integer, and is true"),
            ("FLOAT", [None], "x[0] has to be a number, and is null"),
            ("FLOAT", "1", "x has to be a number, and is a string"),
            ("DOUBLE", int("9" * 400), "too large for DT_DOUBLE"),
            ("BOOL", 1, "x has to be true or false, and is 1"),
            ("STRING", 1, "x has to be a string"),
            ("STRING", {"b64": "?"}, "no base64"),
            ("STRING", "\ud800", "surrogate"),
            ("COMPLEX64", [1], "a pair of numbers"),
            ("any_kind", [1, "a"], "values of different kinds"),
            ("INT8", json.loads("[" * 40 + "1" + "]" * 40), "more than 32 dimensions"),
        ):
            with self.subTest(name, x=x):
                self.refused(400, words, name, x)
        self.assertEqual(self.predict("INT8", [1.0]), (200, {"y": [1]}))

    def test_where_the_contract_is_open_the_values_say_it(self):
        for x in (1, [1.5, 2], ["a"], [[True]], "NaN"):
            self.assertEqual(self.predict("any_kind", x)[0], 200, x)

    def test_maps_are_objects(self):
        people = [{"age": 30, "tags": ["a"]}, {"age": 40, "tags": []}]
        self.assertEqual(self.predict("maps", people), (200, {"y": people}))
        self.refused(400, "x[1] has 'name', which is not in the contract", "maps", [people[0], {"name": 1}])
        self.refused(400, "x[0]: missing: tags", "maps", [{"age": 1}])
        self.refused(400, "x[0].age has to be an integer, and is a string", "maps", [{"age": "1", "tags": []}])
        self.refused(400, "x[0] has to be an object, and is 1", "maps", [1])

    def test_whose_fault_it_is(self):
        self.assertEqual(self.server.http("POST", "/predict/infer", {})[0], 400)
        self.assertEqual(self.refused(400, "x has to have the shape [-1, 2], and has [2]", "infer", [1, 2])["code"], "INVALID_ARGUMENT")
        self.assertEqual(self.refused(500, "raises failed: ValueError: the weights are gone", "raises", 1)["code"], "UNKNOWN")
        self.assertEqual(self.refused(500, "missing: y", "wrong", 1)["code"], "INTERNAL")
        self.refused(404, "no signature 'nope'; it has:", "nope", 1)
        self.refused(400, "the model has several", "", 1)
        status, document = self.server.http("POST", "/predict/infer", {"x": [[1, 2]], "w": {"deep": 1}})
        self.assertEqual((status, "not in the contract: w" in document["error"]), (400, True), document)

    def test_bodies_that_are_no_json_object(self):
        for body, words in ((b"", "not JSON"), (b"[1]", "JSON object"), (b'{"x": NaN}', '"NaN"'), (b'{"x": ' + b"[" * 100000, "too deeply"), (b"\xff", "not JSON")):
            status, document = self.server.http("POST", "/predict/infer", body)
            self.assertEqual(status, 400, document)
            self.assertIn(words, document["error"])

    def test_other_paths(self):
        self.assertEqual(self.server.http("GET", "/health"), (200, {"status": "SERVING"}))
        self.assertEqual(self.server.http("GET", "/health?probe=1")[0], 200)
        self.assertEqual(self.server.http("GET", "/")[0], 404)
        self.assertEqual(self.server.http("GET", "/predict/infer")[0], 405)
        self.assertEqual(self.server.http("POST", "/health", {})[0], 405)

    def test_the_contract_is_shown_as_hs_shows_it(self):
        status, document = self.server.http("GET", "/contract")
        self.assertEqual((status, document["model_name"]), (200, "tested"))
        self.assertEqual(
            document["signatures"][0],
            {"name": "infer", "inputs": [{"name": "x", "dtype": "DT_DOUBLE", "shape": {"dims": [-1, 2]}, "profile": "NONE"}],
             "outputs": [{"name": "y", "dtype": "DT_DOUBLE", "shape": {"dims": [-1, 2]}, "profile": "NONE"}]},
        )
        maps = next(signature for signature in document["signatures"] if signature["name"] == "maps")["inputs"][0]
        self.assertEqual([subfield["name"] for subfield in maps["subfields"]], ["age", "tags"])
        self.assertEqual(document["signatures"][6]["inputs"][0]["shape"], {"unknown_rank": True})
        self.assertEqual(document["signatures"][4]["inputs"][0], {"name": "x", "dtype": None, "shape": None, "profile": "NONE"})

    def test_an_image_of_a_few_million_values(self):
        rows = [[0.5, 1.5]] * 500_000
        status, document = self.predict("infer", rows)
        self.assertEqual((status, len(document["y"]), document["y"][-1]), (200, 500_000, [0.5, 1.5]))


class Wire(ServerCase):
    """What clients send, byte by byte."""

    @classmethod
    def setUpClass(cls):
        cls.server = cls.serve(support.HEADER + support.INFER, support.ONE_SIGNATURE)

    def exchange(self, *pieces):
        """All that comes back until the server closes."""
        with socket.create_connection(("127.0.0.1", self.server.http_port), timeout=30) as connection:
            for piece in pieces:
                connection.sendall(piece)
            received = b""
            while True:
                piece = connection.recv(1 << 16)
                if not piece:
                    return received.decode()
                received += piece

    def check(self, status, *pieces):
        received = self.exchange(*pieces)
        self.assertTrue(received.startswith(f"HTTP/1.1 {status} "), received[:1000])
        return received

    def test_a_connection_takes_many_requests(self):
        body = b'{"x": 4}'
        head = b"POST /predict/infer HTTP/1.1\r\nHost: here\r\nContent-Length: %d\r\n" % len(body)
        received = self.exchange(head + b"\r\n" + body + head + b"\r\n" + body + head + b"Connection: close\r\n\r\n" + body)
        self.assertEqual(received.count('{"y": 4.0}'), 3)
        self.assertEqual(self.exchange(b"GET /health HTTP/1.0\r\n\r\n").count("SERVING"), 1)

    def test_chunks(self):
        head = b"POST /predict/infer HTTP/1.1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        self.assertIn('{"y": 4.0}', self.check(200, head, b'4\r\n{"x"\r\n', b'4;a=b\r\n: 4}\r\n0\r\nTrailer: 1\r\n\r\n'))
        self.check(400, head, b"zz\r\n")
        self.check(400, head, b"3\r\n{}\r\n0\r\n\r\n")
        self.check(413, head, b"fffffffffff\r\n")

    def test_a_client_that_asks_before_it_sends(self):
        received = self.exchange(
            b'POST /predict/infer HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 8\r\nConnection: close\r\n\r\n', b'{"x": 4}'
        )
        self.assertTrue(received.startswith("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK"), received)

    def test_a_body_that_is_too_large_is_refused_before_it_is_read(self):
        begin = b"POST /predict/infer HTTP/1.1\r\nContent-Length: 268435457\r\n"
        self.assertIn("268435456 bytes", self.check(413, begin + b"\r\n" + b" " * 100_000))
        self.assertNotIn("100 Continue", self.check(413, begin + b"Expect: 100-continue\r\n\r\n"))

    def test_more_values_than_memory_is_set_aside_for(self):
        body = b'{"x": [' + b"[]," * (5 << 20) + b"[]]}"
        received = self.check(413, b"POST /predict/infer HTTP/1.1\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body), body)
        self.assertIn("gRPC takes larger ones", received)

    def test_requests_that_are_none(self):
        for status, sent in (
            (400, b"hello\r\n\r\n"),
            (400, b"PRI * HTTP/2.0\r\n\r\n"),
            (400, b"GET /health HTTP/1.1\r\nno colon\r\n\r\n"),
            (400, b"GET /health HTTP/1.1\r\nname : value\r\n\r\n"),
            (400, b"POST /predict HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"),
            (400, b"POST /predict HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"),
            (400, b"POST /predict HTTP/1.1\r\nContent-Length: +1\r\n\r\n"),
            (501, b"POST /predict HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n"),
            (415, b"POST /predict HTTP/1.1\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\n"),
            (431, b"GET /health HTTP/1.1\r\na: " + b"b" * 40_000 + b"\r\n\r\n"),
        ):
            with self.subTest(sent[:60]):
                received = self.check(status, sent)
                self.assertIn('{"error": ', received)
                self.assertIn("Connection: close", received)

    def test_a_client_that_goes_is_no_error(self):
        with socket.create_connection(("127.0.0.1", self.server.http_port)) as connection:
            connection.sendall(b"POST /predict/infer HTTP/1.1\r\nContent-Length: 100\r\n\r\n{")
        self.assertEqual(self.server.http("GET", "/health")[0], 200)
        self.assertNotIn("Traceback", self.server.log)


class Ports(ServerCase):
    def setUp(self):
        super().setUp()
        write_model(self.folder, FUNC_MAIN, contract(("slow", ["x"], ["y"])))

    def test_off(self):
        with Server(self.folder, HTTP_PORT="off") as server:
            self.assertIsNone(server.http_port)
            self.assertEqual(len(server.predict(support.request("slow", x=tensor(0)), timeout=10).outputs), 1)

    def test_the_default_port_is_not_insisted_on(self):
        taken = socket.socket()
        self.addCleanup(taken.close)
        with contextlib.suppress(OSError):
            # Where that fails, somebody else has it: as good.
            taken.bind(("", 9092))
            taken.listen()
        with Server(self.folder, HTTP_PORT="") as server:
            self.assertIn("port 9092 cannot be opened for HTTP", server.log)
            self.assertEqual(len(server.predict(support.request("slow", x=tensor(0)), timeout=10).outputs), 1)

    def test_one_that_was_asked_for_is(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with self.assertRaisesRegex(AssertionError, f"port {port} cannot be opened for HTTP"):
                Server(self.folder, HTTP_PORT=str(port)).__enter__()

    def test_a_stop_waits_for_the_answer_and_for_no_idle_connection(self):
        with Server(self.folder) as server:
            idle = socket.create_connection(("127.0.0.1", server.http_port))
            self.addCleanup(idle.close)
            answers = []
            caller = threading.Thread(target=lambda: answers.append(server.http("POST", "/predict", {"x": 1.0})))
            caller.start()
            time.sleep(0.4)
            self.assertEqual(server.stop(), 0)
            caller.join()
            self.assertEqual(answers, [(200, {"y": 1.0})])
            self.assertEqual(idle.recv(1), b"")
