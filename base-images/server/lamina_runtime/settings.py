"""What the environment says, read once and checked.

Nothing else in the runtime reads environment variables. What must stay true: APP_PORT and MODEL_DIR keep the names and defaults of the
ancestor's runtimes, because deployments set them; and a value that makes no sense stops the process with a sentence, not a traceback.
"""

import os
from dataclasses import dataclass
from typing import FrozenSet, Optional


class Refused(Exception):
    """The process cannot serve, and the text says why to whoever deployed it."""


@dataclass(frozen=True)
class Settings:
    # Which module of lamina_runtime.backends computes; the image's configuration says it.
    backend: str
    model_dir: str
    # 0 lets the kernel choose; the port that it chose is in the log.
    port: int
    # How many predictions run at a time. The ancestor had ten, and models may count on a second caller not waiting for the first.
    predict_threads: int
    # The tags of the SavedModel's meta graph; None leaves the choice to the rules.
    saved_model_tags: Optional[FrozenSet[str]]
    # How long a stop waits for predictions that are running. Below Kubernetes' 30 s, so that the answers still go out.
    stop_grace_s: int


def read(environment=os.environ):
    return Settings(
        backend=environment.get("LAMINA_BACKEND") or "python",
        model_dir=environment.get("MODEL_DIR") or "/model",
        port=_number(environment, "APP_PORT", 9090, 0, 65535),
        predict_threads=_number(environment, "PREDICT_THREADS", 10, 1, 1024),
        saved_model_tags=_words(environment, "SAVED_MODEL_TAGS"),
        stop_grace_s=_number(environment, "STOP_GRACE_S", 25, 0, 3600),
    )


def _words(environment, name):
    words = frozenset(word.strip() for word in environment.get(name, "").split(",") if word.strip())
    return words or None


def _number(environment, name, default, least, most):
    text = environment.get(name, "")
    if text == "":
        return default
    try:
        value = int(text)
    except ValueError:
        value = None
    if value is None or not least <= value <= most:
        raise Refused(f"{name} is {text!r}, and has to be a number from {least} to {most}")
    return value
