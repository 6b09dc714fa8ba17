"""The log: lines on stdout, as text or as JSON objects.

What a model prints goes to the same stdout as it is. What must stay true: in JSON form, each record is one line, its traceback included, with the same
members in each; and a record that cannot be written is no reason to fail a prediction.
"""

import json
import logging
import sys
import time


def set_up(settings):
    # Lines appear when they are written: what a function printed before it crashed the process is what its author needs.
    # Text that cannot be written (halves of surrogate pairs, in file names) is written somehow.
    sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonLines() if settings.form == "json" else logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(handlers=[handler], level=settings.level)


class JsonLines(logging.Formatter):
    def format(self, record):
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)
