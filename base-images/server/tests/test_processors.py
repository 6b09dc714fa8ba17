"""How many processors a container may use, by its control group."""

import os
import tempfile
import unittest

import support  # noqa: F401  (puts the runtime into sys.path)
from lamina_runtime import processors


class Available(unittest.TestCase):
    def available(self, **files):
        with tempfile.TemporaryDirectory() as root:
            for name, content in files.items():
                path = os.path.join(root, name.replace("__", "/").replace("_max", ".max").replace("cfs", "cpu.cfs"))
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "w", encoding="ascii") as file:
                    file.write(content)
            return processors.available(root)

    def test_without_a_limit_they_are_the_process_s_own(self):
        own = len(os.sched_getaffinity(0))
        self.assertEqual([self.available(), self.available(cpu_max="max 100000\n"), self.available(cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")], [own] * 3)

    def test_a_limit_is_rounded_up_and_is_one_at_least(self):
        self.assertEqual(self.available(cpu_max="50000 100000\n"), 1)
        self.assertEqual(self.available(cpu_max="150000 100000\n"), min(2, len(os.sched_getaffinity(0))))
        self.assertEqual(self.available(cpu__cfs_quota_us="100000\n", cpu__cfs_period_us="100000\n"), 1)

    def test_what_cannot_be_read_limits_nothing(self):
        self.assertEqual(self.available(cpu_max="what is this"), len(os.sched_getaffinity(0)))
        self.assertEqual(self.available(cpu_max="100000 0"), len(os.sched_getaffinity(0)))
