"""What Kubernetes' restricted profile leaves of a machine: a user without rights, nowhere to write, no folder for temporary files."""

import json
import os
import subprocess

import support
from support import Server, ServerCase, request, tensor, write_model

NOBODY = 65534
NO_FOLDER = "/nonexistent"


class Confined(ServerCase):
    def test_a_user_without_rights_and_no_folder_to_write_to(self):
        write_model(self.folder)
        for parent, _folders, files in os.walk(self.folder):
            os.chmod(parent, 0o555)
            for name in files:
                os.chmod(os.path.join(parent, name), 0o444)
        os.chmod(support.TREE, 0o755)
        # Tests that run as root give that up; others have none to give up.
        user = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
        with Server(self.folder, user=user, TMPDIR=NO_FOLDER, HOME=NO_FOLDER) as server:
            self.assertEqual(list(server.predict(request(x=tensor(4)), timeout=10).outputs["y"].double_val), [4])
            self.assertEqual(server.http("POST", "/predict", {"x": 4}), (200, {"y": 4.0}))
            self.assertEqual(server.stop(), 0)

    def test_no_file_is_opened_to_be_written(self):
        write_model(self.folder, func_main="import sys\n" + support.HEADER + support.INFER + """
def told(event, arguments):
    # open: the flags are last; the others always change something.
    if event == "open" and arguments[2] & 0o3 and arguments[0] != "/dev/null" or event in ("os.mkdir", "os.remove", "os.rename", "shutil.move"):
        print("CHANGED", event, arguments)

sys.addaudithook(told)
""")
        with Server(self.folder) as server:
            server.predict(request(x=tensor(4)), timeout=10)
            server.http("POST", "/predict", {"x": 4})
            server.stop()
            self.assertNotIn("CHANGED", server.log)


class Logs(ServerCase):
    FUNC_MAIN = support.HEADER + "import logging\nlogging.getLogger('mine').warning('a line\\nof two')\ndef infer(x):\n    raise ValueError('no')\n"

    def ask(self, **more):
        write_model(self.folder, self.FUNC_MAIN)
        with Server(self.folder, **more) as server:
            with self.assertRaises(Exception):
                server.predict(request(x=tensor(4)), timeout=10)
            server.stop()
            return server.log

    def test_as_json_each_record_is_a_line(self):
        records = [json.loads(line) for line in self.ask(LAMINA_LOG="json").splitlines()]
        self.assertEqual({tuple(record)[:4] for record in records}, {("time", "level", "logger", "message")})
        own = next(record for record in records if record["logger"] == "mine")
        self.assertEqual((own["level"], own["message"]), ("WARNING", "a line\nof two"))
        failed = next(record for record in records if "traceback" in record)
        self.assertIn("ValueError: no", failed["traceback"])

    def test_how_much_is_said_can_be_chosen(self):
        write_model(self.folder)
        with Server(self.folder, LAMINA_LOG_LEVEL="debug") as server:
            server.predict(request(x=tensor(4)), timeout=10)
            server.stop()
            self.assertRegex(server.log, "DEBUG lamina.predict: infer answered in [0-9.]+ ms")
        # A level that leaves out the line that tells the port: what is left is the failure.
        write_model(self.folder, func_main="raise ValueError\n")
        ended = subprocess.run(
            support.command(), env=support.environment(self.folder, LAMINA_LOG_LEVEL="error"), capture_output=True, text=True,
            timeout=support.START_TIMEOUT_S,
        )
        self.assertEqual((ended.returncode, ended.stdout), (1, ""))
