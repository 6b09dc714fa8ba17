"""Bases for other machines than this one: the locks of all architectures, what pip is told, and what is said where nothing can be built. No mirror is asked."""

import glob
import os
import platform
import re
import subprocess
import sys
import tempfile
import unittest

BASES = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(BASES, "assemble"))

import locked  # noqa: E402

MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
# What a recipe asks for on an architecture, as build.sh reads it.
READ_RECIPE = """
bases=$1 architecture=$2 lock_of=$3 wheels=() without=()
eval "$(sed -n '/^common=(/,/^)/p' "$bases/build.sh")"
. "$bases/${3/://}/recipe"
printf '%s\n' "lock_of $lock_of" "python $python_minor" "${packages[@]/#/package }" "${wheels[@]/#/wheel }" "${without[@]/#/without }"
"""


def recipes():
    paths = glob.glob(os.path.join(BASES, "*", "*", "recipe"))
    return sorted(":".join(path.split(os.sep)[-3:-1]) for path in paths)


def recipe(runtime, architecture):
    said = subprocess.run(["bash", "-euc", READ_RECIPE, "bash", BASES, architecture, runtime], check=True, capture_output=True, text=True).stdout
    asked = {"lock_of": [], "python": [], "package": [], "wheel": [], "without": []}
    for line in said.splitlines():
        kind, _, value = line.partition(" ")
        # An empty list of bash's prints its prefix alone.
        if value:
            asked[kind].append(value)
    return asked


def lock(runtime, architecture):
    return locked.read(os.path.join(BASES, runtime.replace(":", os.sep), f"{architecture}.lock"))


class Locks(unittest.TestCase):
    def test_each_recipe_is_locked_for_each_architecture_with_all_that_it_asks_for(self):
        self.assertGreaterEqual(len(recipes()), 5)
        for runtime in recipes():
            for architecture in MACHINES:
                asked = recipe(runtime, architecture)
                entries = lock(asked["lock_of"][0], architecture)
                with self.subTest(runtime, architecture=architecture):
                    debs = [entry.name for entry in entries if entry.kind == "deb"]
                    wheels = [entry.name for entry in entries if entry.kind == "wheel"]
                    self.assertEqual(set(asked["package"]) - set(debs), set())
                    self.assertEqual(set(re.split("[=<>~]", wheel)[0] for wheel in asked["wheel"]) - set(wheels), set())
                    self.assertEqual(set(asked["without"]) & set(wheels), set())
                    self.assertEqual(len(debs + wheels), len(set(debs + wheels)), "no package twice")
                    self.assertEqual(entries, sorted(entries))

    def test_each_file_is_for_the_locks_architecture_and_python(self):
        for runtime in recipes():
            for architecture, machine in MACHINES.items():
                asked = recipe(runtime, architecture)
                for entry in lock(asked["lock_of"][0], architecture):
                    with self.subTest(runtime, file=entry.file):
                        if entry.kind == "deb":
                            self.assertIn(entry.file.removesuffix(".deb").rsplit("_", 1)[1], (architecture, "all"))
                            continue
                        python, abi, platforms = entry.file.removesuffix(".whl").split("-")[-3:]
                        own = "cp" + asked["python"][0].replace(".", "")
                        self.assertTrue(own in python or "abi3" in abi or "py3" in python, entry.file)
                        self.assertTrue(platforms == "any" or all(one.endswith(machine) for one in platforms.split(".")), entry.file)

    def test_the_locks_of_a_recipe_have_the_same_versions(self):
        # A rebuild of Debian's for one architecture alone counts as the same.
        def versions(runtime, architecture):
            entries = lock(recipe(runtime, architecture)["lock_of"][0], architecture)
            # The wheel for servers without a GPU has another name on each.
            return {entry.name.removesuffix("-cpu"): re.sub(r"\+b\d+$", "", entry.version) for entry in entries}

        for runtime in recipes():
            one, other = versions(runtime, "amd64"), versions(runtime, "arm64")
            differing = {name: (one[name], other[name]) for name in set(one) & set(other) if one[name] != other[name]}
            self.assertEqual(differing, {}, f"{runtime}: lock it anew for both architectures")
            # libquadmath is there for processors without 128-bit floats of their own.
            self.assertEqual(set(one) ^ set(other) - {"libquadmath0"}, {"libquadmath0"} & set(one), runtime)


class Pip(unittest.TestCase):
    def test_python_says_the_machine_that_it_is_told(self):
        def machine(**environment):
            command = [sys.executable, "-c", "import platform; print(platform.machine(), platform.system())"]
            paths = {"PYTHONPATH": os.path.join(BASES, "assemble", "machine"), "PYTHONDONTWRITEBYTECODE": "1"}
            return subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, **paths, **environment}).stdout.split()

        self.assertEqual(machine(LAMINA_MACHINE="of-a-test"), ["of-a-test", platform.system()])
        self.assertEqual(machine(LAMINA_MACHINE=""), [platform.machine(), platform.system()])


class BuildScript(unittest.TestCase):
    def run_it(self, *arguments, **environment):
        command = ["bash", os.path.join(BASES, "build.sh"), *arguments]
        return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)

    def test_a_word_that_is_no_architecture_is_told_what_one_looks_like(self):
        for words in (["--architecture", "aarch64"], ["--architecture", ""], ["--architecture"]):
            ended = self.run_it("serving-runtime-python:3.11", *words)
            self.assertEqual(ended.returncode, 2, ended.stderr)
            self.assertIn("`--architecture arm64`", ended.stderr)

    def test_a_machine_that_cannot_run_the_other_architecture_says_what_to_install(self):
        own = subprocess.run(["dpkg", "--print-architecture"], check=True, capture_output=True, text=True).stdout.strip()
        other = "arm64" if own != "arm64" else "amd64"
        with tempfile.TemporaryDirectory() as folder:
            # Answers as it does where the kernel has no emulator for it.
            program = os.path.join(folder, "arch-test")
            with open(program, "w", encoding="utf-8") as file:
                file.write('#!/bin/sh\necho "$1: not supported on this machine/kernel"\nexit 1\n')
            os.chmod(program, 0o755)
            out = os.path.join(folder, "out")
            environment = {"PATH": folder + os.pathsep + os.environ["PATH"], "OUT": out, "HS": ""}
            ended = self.run_it("serving-runtime-python:3.11", "--architecture", other, **environment)
            self.assertEqual(ended.returncode, 69, ended.stderr)
            self.assertIn("apt-get install qemu-user-static", ended.stderr)
            self.assertFalse(os.path.exists(out), "before anything is made")
