"""Where Python looks for the model's code and packages.

Only the standard library may be imported here, and this has to run before anything of gRPC, protobuf or NumPy is imported. What must stay
true is the order:

1. the runtime's own folder, so that a hydro_serving_grpc which pip put into the model's packages cannot split the message classes in two;
2. the standard library, so that a model's file named `types.py` does not take the interpreter down;
3. the model's sources, then its packages. The packages were resolved together: mixing them with Debian's, newest protobuf with old gRPC, is
   what breaks. So theirs come first, and Debian's are the floor for models that bring none;
4. Debian's packages.
"""

import os
import sys


def add(model_dir):
    """Puts the model's folders into sys.path and returns them. A second call changes nothing."""
    folders = [os.path.join(model_dir, "files", "src")]
    packages = os.path.join(model_dir, "lib")
    if os.path.isdir(packages):
        folders.append(packages)
    new = [folder for folder in folders if folder not in sys.path]
    position = _first_packages_entry(sys.path)
    sys.path[position:position] = new
    return folders


def _first_packages_entry(entries):
    for position, entry in enumerate(entries):
        if os.path.basename(entry) in ("dist-packages", "site-packages"):
            return position
    return len(entries)
