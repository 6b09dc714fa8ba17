"""The probe that an image's HEALTHCHECK runs: against a server that is ready, and where none is."""

import os
import re
import subprocess
import sys
import tempfile
import unittest

import support
from support import Server, write_model


def probe(**environment):
    command = [sys.executable, "-B", os.path.join(support.TREE, "probe.py")]
    return subprocess.run(command, env={"PATH": os.environ["PATH"], **environment}, capture_output=True, text=True, check=False)


class Probe(unittest.TestCase):
    def test_a_server_that_is_ready_is_and_one_that_is_gone_is_not(self):
        with tempfile.TemporaryDirectory(prefix="lamina-model-") as folder:
            write_model(folder)
            with Server(folder, HTTP_PORT="0") as server:
                http_port = re.search(r"HTTP on port (\d+)", server.log)[1]
                asked = [probe(HTTP_PORT=http_port), probe(HTTP_PORT="off", APP_PORT=str(server.port))]
                self.assertEqual([(ended.returncode, ended.stdout, ended.stderr) for ended in asked], [(0, "", "")] * 2)
            for environment in ({"HTTP_PORT": http_port}, {"HTTP_PORT": "off", "APP_PORT": str(server.port)}):
                ended = probe(**environment)
                self.assertEqual((ended.returncode, ended.stdout, len(ended.stderr.splitlines())), (1, "", 1), ended.stderr)
                self.assertIn("does not answer", ended.stderr)

    def test_settings_that_make_no_sense_are_said(self):
        ended = probe(HTTP_PORT="many")
        self.assertEqual(ended.returncode, 1)
        self.assertIn("HTTP_PORT", ended.stderr)
