"""Prints the image configuration of a base.

usage: image_config.py NAME:VERSION ARCHITECTURE PYTHON_VERSION LOCK_SHA256 DESCRIPTION [NAME=VALUE…]

The last are the recipe's own environment variables. It is not the whole configuration: layers and history are added by `hs base import`. What must stay true:
the user is a number, which is what Kubernetes checks for runAsNonRoot, and nothing here depends on the machine or the day.
"""

import json
import sys

# Debian's names are Go's for all that its 64-bit machines are called, but one.
ARCHITECTURES = {"ppc64el": "ppc64le"}

SECOND_NS = 1_000_000_000


def main(arguments):
    if len(arguments) < 5:
        print(__doc__, file=sys.stderr)
        return 2
    runtime, architecture, python_version, lock_sha256, description, *environment = arguments
    print(json.dumps(config(runtime, architecture, python_version, lock_sha256, description, environment), indent=2))
    return 0


def config(runtime, architecture, python_version, lock_sha256, description, environment):
    name, version = runtime.split(":")
    return {
        "architecture": ARCHITECTURES.get(architecture, architecture),
        "os": "linux",
        "config": {
            "User": "42069:42069",
            "ExposedPorts": {"9090/tcp": {}, "9092/tcp": {}},
            "Env": [
                "PATH=/usr/local/bin:/usr/bin:/bin",
                "LANG=C.UTF-8",
                f"PYTHON_VERSION={python_version}",
                "PYTHONUNBUFFERED=1",
                "PYTHONDONTWRITEBYTECODE=1",
                "PYTHONPATH=/opt/lamina",
                "APP_PORT=9090",
                "MODEL_DIR=/model",
                *environment,
            ],
            "Entrypoint": ["/usr/bin/python3", "/opt/lamina/serve.py"],
            # For engines that read it; Kubernetes asks over gRPC.
            "Healthcheck": {
                "Test": ["CMD", "/usr/bin/python3", "/opt/lamina/probe.py"],
                "Interval": 30 * SECOND_NS, "Timeout": 10 * SECOND_NS, "StartPeriod": 60 * SECOND_NS, "Retries": 3,
            },
            "WorkingDir": "/",
            "StopSignal": "SIGTERM",
            "Labels": {
                "DEPLOYMENT_TYPE": "APP",
                "io.lamina.runtime": name,
                "io.lamina.contract-dialect": "v1",
                # Tells an imported base from one of another lock.
                "io.lamina.lock": f"sha256:{lock_sha256}",
                "org.opencontainers.image.title": name,
                "org.opencontainers.image.version": version,
                "org.opencontainers.image.description": description,
            },
        },
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
