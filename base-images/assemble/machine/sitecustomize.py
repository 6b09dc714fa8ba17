"""Makes pip judge requirements for the machine that LAMINA_MACHINE names (`aarch64`), and not for the one that it runs on.

It is not imported by anything of ours: Python imports it at its start, where this folder is in PYTHONPATH, and fetch.sh puts it there for pip alone.
pip has an option for the platform of the wheels, and none for the markers of what they require (`; platform_machine == "aarch64"`): those it
takes from Python. What must stay true: nothing but the word changes, and fetch.sh asks pip for it before it believes in it.
"""

import os
import platform

_machine = os.environ.get("LAMINA_MACHINE")
if _machine:
    platform.machine = lambda: _machine
