"""The backend of Python models: for each signature, the user's function of that name in func_main.py.

Loading happens once, before the port opens, so that a broken model is a container that stops with a reason, not one that answers errors. The module
stays: what it keeps in its variables lasts from one request to the next. What must stay true: whatever is missing is named together with the path where
it was looked for, and with the remedy where there is one.
"""

import importlib
import os

from lamina_runtime import backend
from lamina_runtime.backend import Stopped
from lamina_runtime.backends import python_calling
from lamina_runtime.settings import Refused


def load(settings, contract):
    signature = python_calling.BY_NAME[settings.calling]
    for declared in contract.signatures:
        signature.check_declared(declared)
    module = import_func_main(settings.model_dir)
    signatures = {
        declared.name: signature(declared.name, declared.inputs, declared.outputs, _function(module, declared.name))
        for declared in contract.signatures
    }
    return backend.Model(contract.model_name, signatures)


def import_func_main(model_dir):
    folder = os.path.join(model_dir, "files", "src")
    try:
        return importlib.import_module("func_main")
    except ModuleNotFoundError as error:
        if error.name == "func_main":
            raise Refused(f"there is no func_main.py in {folder}: {_what_is_there(folder)}") from None
        raise Refused(
            f"func_main.py imports {error.name!r}, which this image does not have: add it to the model's requirements.txt, or to its payload"
        ) from error
    # Users' code may raise anything at all here, sys.exit() among it.
    except BaseException as error:
        if isinstance(error, (KeyboardInterrupt, Stopped)):
            raise
        raise Refused(f"importing func_main.py failed: {type(error).__name__}: {error}") from error


def _function(module, name):
    function = getattr(module, name, None)
    if function is None:
        raise Refused(f"func_main.py has no function {name!r}, which the contract's signature {name!r} asks for")
    if not callable(function):
        raise Refused(f"{name!r} in func_main.py is no function ({type(function).__name__}), and the contract's signature {name!r} asks for one")
    return function


def _what_is_there(folder):
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        return f"the folder cannot be listed ({error.strerror}); does the payload in serving.yaml name src/?"
    if not names:
        return "the folder is empty"
    shown = ", ".join(names[:10])
    return f"it holds {shown}" + (f" and {len(names) - 10} more" if len(names) > 10 else "")
