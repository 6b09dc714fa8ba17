"""The entry point of a serving runtime's image.

It is run as a file, so that Python puts this folder, and not the model's working directory, first in sys.path. What must stay true: the
model's folders are in sys.path before anything outside of the standard library is imported (lamina_runtime.model_path says why), and a
failure to serve is one sentence on stderr and exit code 1.
"""

import sys
import traceback

from lamina_runtime import logs, model_path, settings


def main():
    try:
        logs.set_up(settings.read_log())
        known = settings.read()
        if known.backend == "python":
            # The code of other models is not Python, and a file of theirs that is named as a module must not become one.
            model_path.add(known.model_dir)
        # Here, and not above: this is what imports gRPC and protobuf.
        from lamina_runtime import server

        server.run(known)
    except settings.Refused as refusal:
        if refusal.__cause__ is not None:
            # The user's own traceback, which the sentence below sums up.
            traceback.print_exception(refusal.__cause__)
        sys.stdout.flush()
        print(f"{settings.runtime_name()}: {refusal}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
