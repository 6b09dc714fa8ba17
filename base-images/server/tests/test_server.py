"""The server with models that work: predictions, errors, health, stopping."""

import os
import signal
import subprocess
import threading
import time

import grpc
from google.protobuf.wrappers_pb2 import Int32Value, StringValue

import support
from support import Server, ServerCase, contract, hs, request, tensor, write_model

FUNC_MAIN = support.HEADER + """
import time

def infer(x):
    return hs.PredictResponse(outputs={"y": x})

def wrong(x):
    return {"y": x}

def nothing(x):
    pass

def raises(x):
    raise ValueError("the weights are gone")

def leaves(x):
    raise SystemExit(3)

def chatty(x):
    raise ValueError("m" * 100000)

def emoji(x):
    raise ValueError(chr(0xDC80) + chr(0x1F4A9) * 10000)

def slow(x):
    time.sleep(x.double_val[0])
    return hs.PredictResponse(outputs={"y": x})
"""

SIGNATURES = ["infer", "wrong", "nothing", "raises", "leaves", "chatty", "emoji", "slow"]


class Predict(ServerCase):
    @classmethod
    def setUpClass(cls):
        cls.server = cls.serve(FUNC_MAIN, contract(*((name, ["x"], ["y"]) for name in SIGNATURES)))

    def predict(self, asked, timeout=10):
        return self.server.predict(asked, timeout=timeout)

    def test_the_function_of_the_signature_answers(self):
        self.assertEqual(list(self.predict(request(x=tensor(1.5, 2.0))).outputs["y"].double_val), [1.5, 2.0])

    def test_an_unknown_signature_is_the_callers_fault(self):
        self.assert_status(grpc.StatusCode.INVALID_ARGUMENT, ["'nope'", "infer, leaves"], lambda: self.predict(request("nope", x=tensor(1))))

    def test_an_empty_signature_needs_a_model_with_one(self):
        self.assert_status(grpc.StatusCode.INVALID_ARGUMENT, "the model has several", lambda: self.predict(request("", x=tensor(1))))

    def test_inputs_have_to_be_those_of_the_contract(self):
        invalid = grpc.StatusCode.INVALID_ARGUMENT
        self.assert_status(invalid, "missing: x", lambda: self.predict(request()))
        self.assert_status(invalid, "not in the contract: z", lambda: self.predict(request(x=tensor(1), z=tensor(1))))
        self.assert_status(invalid, ["missing: x", "not in the contract: z"], lambda: self.predict(request(z=tensor(1))))

    def test_what_is_no_response_is_out_of_range(self):
        out_of_range = grpc.StatusCode.OUT_OF_RANGE
        self.assert_status(out_of_range, ["builtins.dict", "PredictResponse"], lambda: self.predict(request("wrong", x=tensor(1))))
        self.assert_status(out_of_range, "NoneType", lambda: self.predict(request("nothing", x=tensor(1))))

    def test_an_exception_is_unknown_and_says_what(self):
        self.assert_status(
            grpc.StatusCode.UNKNOWN, "raises failed: ValueError: the weights are gone", lambda: self.predict(request("raises", x=tensor(1)))
        )

    def test_sys_exit_in_a_function_does_not_end_the_server(self):
        self.assert_status(grpc.StatusCode.UNKNOWN, "SystemExit: 3", lambda: self.predict(request("leaves", x=tensor(1))))
        self.predict(request(x=tensor(1)))

    def test_a_long_exception_still_arrives(self):
        self.assert_status(grpc.StatusCode.UNKNOWN, "chatty failed: ValueError: mmm", lambda: self.predict(request("chatty", x=tensor(1))))

        self.assert_status(grpc.StatusCode.UNKNOWN, "emoji failed: ValueError: ?\U0001F4A9", lambda: self.predict(request("emoji", x=tensor(1))))

    def test_messages_may_be_large(self):
        large = hs.TensorProto(dtype=hs.DT_DOUBLE, tensor_content=bytes(64 * 1024 * 1024))
        self.assertEqual(len(self.predict(request(x=large), timeout=60).outputs["y"].tensor_content), 64 * 1024 * 1024)

    def test_predictions_run_side_by_side(self):
        begun = time.monotonic()
        calls = [self.server.predict.future(request("slow", x=tensor(0.5)), timeout=20) for _ in range(8)]
        for call in calls:
            call.result()
        self.assertLess(time.monotonic() - begun, 3)


class Health(ServerCase):
    def setUp(self):
        super().setUp()
        write_model(self.folder, FUNC_MAIN, contract(("slow", ["x"], ["y"])))

    @staticmethod
    def check(server, service=""):
        method = server.channel.unary_unary(
            "/grpc.health.v1.Health/Check", request_serializer=StringValue.SerializeToString, response_deserializer=Int32Value.FromString
        )
        return method(StringValue(value=service), timeout=5).value

    @staticmethod
    def watch(server, service=""):
        method = server.channel.unary_stream(
            "/grpc.health.v1.Health/Watch", request_serializer=StringValue.SerializeToString, response_deserializer=Int32Value.FromString
        )
        return method(StringValue(value=service), timeout=30)

    def test_a_loaded_model_is_serving(self):
        with Server(self.folder) as server:
            self.assertEqual(self.check(server), 1)
            self.assertEqual(self.check(server, "tensorflow.serving.PredictionService"), 1)
            self.assert_status(grpc.StatusCode.NOT_FOUND, "'other'", lambda: self.check(server, "other"))

    def test_a_probe_is_answered_while_all_threads_predict(self):
        with Server(self.folder, PREDICT_THREADS="1") as server:
            calls = [server.predict.future(request("slow", x=tensor(1.5)), timeout=20) for _ in range(2)]
            begun = time.monotonic()
            self.assertEqual(self.check(server), 1)
            self.assertLess(time.monotonic() - begun, 1)
            for call in calls:
                call.result()

    def test_a_watcher_is_told_of_the_stop_and_does_not_delay_it(self):
        with Server(self.folder) as server:
            known, unknown = self.watch(server), self.watch(server, "other")
            self.assertEqual(next(known).value, 1)
            self.assertEqual(next(unknown).value, 3)
            begun = time.monotonic()
            self.assertEqual(server.stop(), 0)
            self.assertLess(time.monotonic() - begun, 5)
            self.assertEqual([answer.value for answer in known], [2])
            self.assertEqual([answer.value for answer in unknown], [])

    def test_its_bytes_are_those_of_the_protocol(self):
        # The server takes wrapper types for the protocol's messages; protoc says whether the bytes agree.
        for text, encoded in (("status: SERVING", Int32Value(value=1)), ("status: NOT_SERVING", Int32Value(value=2))):
            self.assertEqual(self.encode("HealthCheckResponse", text), encoded.SerializeToString())
        self.assertEqual(self.encode("HealthCheckRequest", 'service: "a.b"'), StringValue(value="a.b").SerializeToString())

    @staticmethod
    def encode(message, text):
        return subprocess.run(
            ["protoc", "-I", support.PROTO, "--encode", f"grpc.health.v1.{message}", "grpc/health/v1/health.proto"],
            input=text.encode(), stdout=subprocess.PIPE, check=True,
        ).stdout


class GivenUp(ServerCase):
    def test_what_waits_when_its_caller_goes_is_never_begun(self):
        write_model(self.folder, support.HEADER + """
import time
def infer(x):
    print("began", x.double_val[0])
    time.sleep(x.double_val[0])
    return hs.PredictResponse(outputs={"y": x})
""")
        with Server(self.folder, PREDICT_THREADS="1") as server:
            first = server.predict.future(request(x=tensor(1.0)), timeout=20)
            time.sleep(0.3)
            second = server.predict.future(request(x=tensor(0.25)), timeout=20)
            time.sleep(0.2)
            second.cancel()
            first.result()
            self.assertEqual(list(server.predict(request(x=tensor(0.5)), timeout=20).outputs["y"].double_val), [0.5])
            server.stop()
            self.assertIn("began 1.0", server.log)
            self.assertNotIn("began 0.25", server.log)


class Stopping(ServerCase):
    def setUp(self):
        super().setUp()
        write_model(self.folder, FUNC_MAIN, contract(("slow", ["x"], ["y"])))

    def test_a_running_prediction_is_answered(self):
        with Server(self.folder) as server:
            call = server.predict.future(request("slow", x=tensor(1.0)), timeout=20)
            time.sleep(0.3)
            self.assertEqual(server.stop(), 0)
            self.assertEqual(list(call.result().outputs["y"].double_val), [1.0])

    def test_one_that_does_not_end_is_given_up(self):
        with Server(self.folder, STOP_GRACE_S="1") as server:
            call = server.predict.future(request("slow", x=tensor(60.0)), timeout=70)
            time.sleep(0.3)
            begun = time.monotonic()
            self.assertEqual(server.stop(), 0)
            self.assertLess(time.monotonic() - begun, 10)
            self.assertIn("gave up on 1 predictions", server.log)
            self.assertIsNotNone(call.exception())

    def test_a_stop_while_the_model_loads(self):
        write_model(self.folder, "import time\nprint('loading')\ntime.sleep(60)\n")
        process = subprocess.Popen(support.command(), env=support.environment(self.folder), stdout=subprocess.PIPE, text=True)
        watchdog = threading.Timer(support.START_TIMEOUT_S, process.kill)
        watchdog.start()
        self.assertEqual(process.stdout.readline(), "loading\n")
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate()
        watchdog.cancel()
        self.assertEqual(process.returncode, 0)
        self.assertIn("while the model was loading", rest)


class Paths(ServerCase):
    def test_the_models_packages_win_but_not_over_the_messages(self):
        write_model(
            self.folder,
            support.HEADER + "import six, types\nprint('six is', six.WHOSE)\ntypes.SimpleNamespace()\n" + support.INFER,
            files={
                # One that Debian's gRPC brings along.
                "lib/six.py": b"WHOSE = 'the model\\'s'\n",
                "lib/hydro_serving_grpc/__init__.py": b"raise ImportError('an old copy that pip brought')\n",
                "files/src/types.py": b"raise ImportError('shadows the standard library')\n",
            },
        )
        with Server(self.folder) as server:
            self.assertIn("six is the model's", server.log)
            self.assertEqual(list(server.predict(request(x=tensor(4)), timeout=5).outputs["y"].double_val), [4])

    def test_the_bare_signature_of_3_x_is_read(self):
        signature = hs.ModelSignature(signature_name="infer")
        signature.inputs.add(name="x", dtype=hs.DT_DOUBLE)
        signature.outputs.add(name="y", dtype=hs.DT_DOUBLE)
        write_model(self.folder, encoded_contract=signature.SerializeToString())
        with Server(self.folder) as server:
            self.assertEqual(list(server.predict(request(x=tensor(4)), timeout=5).outputs["y"].double_val), [4])

    def test_one_signature_needs_no_name(self):
        write_model(self.folder)
        with Server(self.folder) as server:
            self.assertEqual(list(server.predict(request("", x=tensor(4)), timeout=5).outputs["y"].double_val), [4])

    def test_nothing_is_written(self):
        write_model(self.folder)
        before = sorted(os.walk(self.folder))
        with Server(self.folder, PYTHONDONTWRITEBYTECODE="1") as server:
            server.predict(request(x=tensor(4)), timeout=5)
        self.assertEqual(sorted(os.walk(self.folder)), before)
