"""What the environment says, read once and checked.

Nothing else in the runtime reads environment variables. What must stay true: APP_PORT and MODEL_DIR keep the names and defaults of the
ancestor's runtimes, because deployments set them; and a value that makes no sense stops the process with a sentence, not a traceback.
"""

import os
from dataclasses import dataclass
from typing import FrozenSet, Optional

HTTP_PORT = 9092


class Refused(Exception):
    """The process cannot serve, and the text says why to whoever deployed it."""


@dataclass(frozen=True)
class Settings:
    # Which module of lamina_runtime.backends computes; the image's configuration says it.
    backend: str
    # How the python backend calls functions, `tensor_proto` or `numpy`; the image's configuration says it.
    calling: str
    # `full`: requests and answers are held against the contract; `names`: only the names of their tensors, as the ancestor did.
    check: str
    model_dir: str
    # gRPC. 0 lets the kernel choose; the port that it chose is in the log.
    port: int
    # HTTP; None: none is opened.
    http_port: Optional[int]
    # A port that somebody asked for has to be had; the default one does not.
    http_port_asked: bool
    # How many predictions run at a time. The ancestor had ten, and models may count on a second caller not waiting for the first.
    predict_threads: int
    # The tags of the SavedModel's meta graph; None leaves the choice to the rules.
    saved_model_tags: Optional[FrozenSet[str]]
    # How long a stop waits for predictions that are running. Below Kubernetes' 30 s, so that the answers still go out.
    stop_grace_s: int


@dataclass(frozen=True)
class LogSettings:
    # `text` or `json`: one object a line.
    form: str
    # A name of Python's logging.
    level: str


def read(environment=os.environ):
    http_port = environment.get("HTTP_PORT", "")
    return Settings(
        backend=environment.get("LAMINA_BACKEND") or "python",
        calling=_word(environment, "LAMINA_CALLING", ("tensor_proto", "numpy")),
        check=_word(environment, "LAMINA_CHECK", ("full", "names")),
        model_dir=environment.get("MODEL_DIR") or "/model",
        port=_number(environment, "APP_PORT", 9090, 0, 65535),
        http_port=None if http_port == "off" else _number(environment, "HTTP_PORT", HTTP_PORT, 0, 65535, " or `off`"),
        http_port_asked=http_port != "",
        predict_threads=_number(environment, "PREDICT_THREADS", 10, 1, 1024),
        saved_model_tags=_words(environment, "SAVED_MODEL_TAGS"),
        stop_grace_s=_number(environment, "STOP_GRACE_S", 25, 0, 3600),
    )


def read_log(environment=os.environ):
    return LogSettings(
        form=_word(environment, "LAMINA_LOG", ("text", "json")),
        level=_word(environment, "LAMINA_LOG_LEVEL", ("info", "debug", "warning", "error")).upper(),
    )


def runtime_name(environment=os.environ):
    """What the image is called in messages."""
    return f"serving-runtime-{environment.get('LAMINA_BACKEND') or 'python'}"


def _words(environment, name):
    """Words between commas; None where there are none."""
    words = frozenset(word.strip() for word in environment.get(name, "").split(",") if word.strip())
    return words or None


def _word(environment, name, words):
    """One of these words; the first is the default."""
    text = environment.get(name) or words[0]
    if text not in words:
        raise Refused(f"{name} is {text!r}, and has to be {' or '.join(words)}")
    return text


def _number(environment, name, default, least, most, otherwise=""):
    text = environment.get(name, "")
    if text == "":
        return default
    # Plain digits: int() takes signs, blanks and underscores too.
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and least <= int(text) <= most):
        raise Refused(f"{name} is {text!r}, and has to be a number from {least} to {most}{otherwise}")
    return int(text)
