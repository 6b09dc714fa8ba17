"""Writes which modules the standard library of each Python has, as `hs` compares imports with it.

usage: python3 modules.py PYTHON... > modules.txt, oldest first; each PYTHON is an interpreter as its authors build it, no distribution's

A line is a module and the versions that have it, the first and the last in a row: `imp 2.7 3.11`. From 3.10 on Python has the list itself
(sys.stdlib_module_names); before, it is what lies in the library's folders and what is built in. Names that begin with an underscore are
nobody's to import, but for `__future__` and `_thread`. The list is compiled into `hs` (src/model/python_standard.rs).
"""

import subprocess
import sys

OWN = r"""
import sys
names = set(getattr(sys, 'stdlib_module_names', ()))
if not names:
    import os, pkgutil
    library = os.path.dirname(os.__file__)
    folders = [library, os.path.join(library, 'lib-dynload')]
    names.update(sys.builtin_module_names)
    names.update(name for _, name, _ in pkgutil.iter_modules(folders))
    # Windows' and macOS' own, as later lists name them on every platform; and what lies beside the library.
    names.update(['msvcrt', 'nt', 'winreg' if sys.version_info[0] > 2 else '_winreg', 'winsound'])
    names -= set(['test', 'this', 'antigravity', 'site-packages', 'config'])
print('%d.%d' % sys.version_info[:2])
print('\n'.join(sorted(names)))
"""

had = {}
versions = []
for interpreter in sys.argv[1:]:
    version, *names = subprocess.check_output([interpreter, "-I" if "2.7" not in interpreter else "-E", "-c", OWN], text=True).split()
    versions.append(version)
    for name in names:
        if not name.startswith("_") or name in ("__future__", "_thread"):
            had.setdefault(name, []).append(version)
print("# Modules of the standard library, written by modules.py")
print("versions", *versions)
for name, of_versions in sorted(had.items()):
    print(name, of_versions[0], of_versions[-1])
