"""What Python does with a module and a call: the judge of tests/contract/python_code.rs.

Reads JSON from stdin, a list of {"source": text, "call": name, "inputs": [name, …]}, and prints a list of words: "taken", or at what it failed:
"import", "missing", "call". The bodies of the functions do nothing, so a TypeError is the call's.
"""

import json
import sys
import types


def outcome(case):
    module = types.ModuleType("func_main")
    sys.modules["func_main"] = module
    try:
        exec(compile(case["source"].encode(), "func_main.py", "exec"), module.__dict__)
    except (Exception, SystemExit):
        return "import"
    # As the runtime's model.py has it.
    function = getattr(module, case["call"], None)
    if function is None:
        return "missing"
    try:
        function(**{name: 1 for name in case["inputs"]})
    except TypeError:
        return "call"
    return "taken"


print(json.dumps([outcome(case) for case in json.load(sys.stdin)]))
