"""Models and settings that cannot be served: the process ends with code 1, and the last line on stderr says what is missing and where."""

import socket
import subprocess
import tempfile
import unittest

import support
from support import HEADER, contract, field, hs, write_model


class Refusals(unittest.TestCase):
    def check(self, expected, traceback_has=None, environment=None, runtime="serving-runtime-python", **model):
        """Each word of `expected` has to be in the last line. {model} stands for the model's folder."""
        with tempfile.TemporaryDirectory(prefix="lamina-model-") as folder:
            write_model(folder, **model)
            ended = subprocess.run(
                support.command(), env=support.environment(folder, **(environment or {})), capture_output=True, text=True,
                timeout=support.START_TIMEOUT_S,
            )
        self.assertEqual(ended.returncode, 1, ended.stderr)
        lines = ended.stderr.rstrip().splitlines()
        self.assertTrue(lines[-1].startswith(f"{runtime}: "), ended.stderr)
        for words in expected:
            self.assertIn(words.replace("{model}", folder), lines[-1])
        if traceback_has:
            self.assertIn(traceback_has, ended.stderr)
        else:
            self.assertEqual(len(lines), 1, ended.stderr)

    def test_no_contract(self):
        self.check(["no contract at {model}/contract.protobin", "MODEL_DIR"], encoded_contract=None)

    def test_a_contract_that_is_none(self):
        self.check(["{model}/contract.protobin is not a contract"], encoded_contract=b"\xff\xff\xff")

    def test_a_contract_without_signatures(self):
        self.check(["has no signature"], encoded_contract=contract())
        self.check(["has no signature"], encoded_contract=b"")

    def test_a_signature_without_a_name(self):
        self.check(["signature without a name"], encoded_contract=contract(("", ["x"], ["y"])))

    def test_no_func_main(self):
        self.check(["no func_main.py in {model}/files/src", "No such file"], func_main=None)
        self.check(["no func_main.py in {model}/files/src", "holds main.py"], func_main=None, files={"files/src/main.py": b""})

    def test_a_package_that_is_not_there(self):
        self.check(["'no_such_package'", "requirements.txt"], func_main="import no_such_package\n", traceback_has="line 1")

    def test_code_that_fails_on_import(self):
        self.check(["SyntaxError"], func_main="def infer(x:\n", traceback_has="func_main.py")
        self.check(["FileNotFoundError", "/no/weights"], func_main="open('/no/weights')\n", traceback_has="line 1")
        self.check(["SystemExit: 4"], func_main="import sys; sys.exit(4)\n", traceback_has="line 1")

    def test_no_function_for_a_signature(self):
        self.check(["no function 'infer'", "signature 'infer'"], func_main="def predict(x): pass\n")

    def test_what_is_no_function(self):
        self.check(["'infer' in func_main.py is no function (module)"], func_main="import sys as infer\n")

    def test_settings_that_make_no_sense(self):
        self.check(["APP_PORT is 'http'", "0 to 65535"], environment={"APP_PORT": "http"})
        self.check(["APP_PORT is '70000'"], environment={"APP_PORT": "70000"})
        self.check(["PREDICT_THREADS is '0'"], environment={"PREDICT_THREADS": "0"})
        self.check(["HTTP_PORT is 'on'", "0 to 65535 or `off`"], environment={"HTTP_PORT": "on"})
        self.check(["LAMINA_CALLING is 'arrays'", "tensor_proto or numpy"], environment={"LAMINA_CALLING": "arrays"})
        self.check(["LAMINA_CHECK is 'none'", "full or names"], environment={"LAMINA_CHECK": "none"})
        self.check(["LAMINA_LOG is 'xml'", "text or json"], environment={"LAMINA_LOG": "xml"})

    def test_a_backend_that_is_not_there(self):
        for name, words in (("quantum", "no such backend"), ("../x", "the name of a backend")):
            self.check([f"LAMINA_BACKEND is {name!r}", words], environment={"LAMINA_BACKEND": name}, runtime=f"serving-runtime-{name}")

    def test_what_has_no_array_where_arrays_are_called_for(self):
        encoded = contract(("infer", [field("x", hs.DT_VARIANT)], [field("y")]))
        self.check(["signature 'infer' has DT_VARIANT in 'x'", "the way numpy"], environment={"LAMINA_CALLING": "numpy"}, encoded_contract=encoded)

    def test_two_signatures_of_one_name(self):
        self.check(["two signatures named 'infer'"], encoded_contract=contract(("infer", ["x"], ["y"]), ("infer", ["x"], ["y"])))

    def test_a_contract_that_is_too_large(self):
        self.check(["more than 1048576 bytes"], encoded_contract=bytes(2 << 20))

    def test_a_port_that_is_taken(self):
        with socket.socket(socket.AF_INET6 if socket.has_ipv6 else socket.AF_INET) as taken:
            taken.bind(("", 0))
            taken.listen()
            port = str(taken.getsockname()[1])
            with self.assertRaisesRegex(AssertionError, f"port {port} cannot be opened"):
                with tempfile.TemporaryDirectory(prefix="lamina-model-") as folder:
                    write_model(folder, HEADER + support.INFER)
                    support.Server(folder, APP_PORT=port).__enter__()
