"""Says by its exit code whether the server in this container is ready: what an image's HEALTHCHECK runs, and an `exec` probe can.

Probes over the network need no process and are better where there are any: grpc.health.v1.Health on APP_PORT, GET /health on HTTP_PORT. Only the standard
library is imported, and only what this needs of it: it runs every few seconds. What must stay true: it says nothing on stdout, and one sentence on
stderr where the answer is no.
"""

import http.client
import socket
import sys

from lamina_runtime import settings

TIMEOUT_S = 5


def main():
    try:
        known = settings.read()
        if known.http_port is None:
            # The port opens only when the model is loaded.
            socket.create_connection(("127.0.0.1", known.port), TIMEOUT_S).close()
            return 0
        connection = http.client.HTTPConnection("127.0.0.1", known.http_port, timeout=TIMEOUT_S)
        connection.request("GET", "/health")
        status = connection.getresponse().status
        problem = None if status == 200 else f"GET /health is answered {status}"
    except settings.Refused as refusal:
        problem = str(refusal)
    except (OSError, http.client.HTTPException) as error:
        problem = f"the server does not answer: {error}"
    if problem:
        print(f"{settings.runtime_name()}: {problem}", file=sys.stderr)
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main())
