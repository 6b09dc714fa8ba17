# Compiles Python sources with the interpreter that runs this: a base's own (`compiler.rs`). No source is run, only compiled.
#
# On stdin, for each source, a line `SIZE PATH` and then its bytes. On stdout, first a line with the tag of the interpreter's bytecode files, then for each
# source a line and what it announces: `compiled SIZE` and the bytes of the file; `left out` and why, where the source is not valid for this Python; `died` and
# how. argv: the folder that paths are below in the image, which tracebacks show; the bytes of memory and, for all sources together, the processor's seconds
# that may be used.
#
# What must stay true: each source is compiled in a process of its own, forked from one that has compiled nothing. What bytecode looks like depends on which
# strings a process has met before (marshal notes what is referred to more than once); so it depends on the source, its path and the interpreter alone.
import _signal
import importlib.util
import marshal
import os
import sys

# PEP 552: a file that is valid while the hash of the source is this one. Whoever changes a source in a container gets what he wrote.
CHECKED_HASH = (0b11).to_bytes(4, "little")
# The longest reason that is told.
REASON_MAX = 300
OUT_OF_MEMORY = 3


def write(line, content=b""):
    left = memoryview(line.encode("utf-8", "backslashreplace") + b"\n" + content)
    while left:
        left = left[os.write(1, left) :]


def most_memory_used():
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def compile_source(path, source, memory_bytes):
    try:
        code = compile(source, path, "exec", dont_inherit=True, optimize=0)
        compiled = importlib.util.MAGIC_NUMBER + CHECKED_HASH + importlib.util.source_hash(source) + marshal.dumps(code)
    except Exception as error:
        # MemoryError is also what the parser says of a source that is nested too deeply: then hardly any memory was used.
        if isinstance(error, MemoryError) and most_memory_used() > memory_bytes // 2:
            return OUT_OF_MEMORY
        # As pip does: packages carry templates, and sources for other versions, that nobody imports.
        write("left out " + " ".join(str(error)[:REASON_MAX].split()))
    else:
        write("compiled %d" % len(compiled), compiled)
    return 0


def how_it_died(status):
    if os.WIFSIGNALED(status):
        return "by signal %d" % os.WTERMSIG(status)
    return "for want of memory" if os.WEXITSTATUS(status) == OUT_OF_MEMORY else "of an error"


def main(folder, memory_bytes, processor_s):
    # Ctrl-C ends a compiler at once; Python would wait for the end of the source.
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    write(sys.implementation.cache_tag)
    while True:
        line = sys.stdin.buffer.readline()
        if not line:
            return
        size, path = line.decode().rstrip("\n").split(" ", 1)
        source = sys.stdin.buffer.read(int(size))
        child = os.fork()
        if child == 0:
            status = 1
            try:
                # Whoever reads what is complained of must not wait for a compiler whose parent was killed.
                os.close(2)
                status = compile_source(folder + path, source, memory_bytes)
            finally:
                os._exit(status)
        status = os.waitpid(child, 0)[1]
        if status:
            write("died " + how_it_died(status))
        if sum(os.times()[2:4]) > processor_s:
            write("died of more work than a package may make")
            return


main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
