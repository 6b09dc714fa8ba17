# Compiles Python sources with the interpreter that runs this: a base's own (`compiler.rs`). No source is run, only compiled.
#
# On stdin, for each source, a line `SIZE PATH` and then its bytes. On stdout, first a line with the tag of the interpreter's bytecode files, then for each
# source a line and what it announces: `compiled SIZE` and the bytes of the file; `left out` and why, where the source is not valid for this Python; `died` and
# how. argv[1] is the folder that paths are below in the image: tracebacks show it.
#
# What must stay true: each source is compiled in a process of its own, forked from one that has compiled nothing. What bytecode looks like depends on which
# strings a process has met before (marshal notes what is referred to more than once); so it depends on the source, its path and the interpreter alone.
import importlib.util
import marshal
import os
import sys

# PEP 552: a file that is valid while the hash of the source is this one. Whoever changes a source in a container gets what he wrote.
CHECKED_HASH = (0b11).to_bytes(4, "little")


def write(line, content=b""):
    left = memoryview(line.encode("utf-8", "backslashreplace") + b"\n" + content)
    while left:
        left = left[os.write(1, left) :]


def compile_source(path, source):
    try:
        code = compile(source, path, "exec", dont_inherit=True, optimize=0)
        compiled = importlib.util.MAGIC_NUMBER + CHECKED_HASH + importlib.util.source_hash(source) + marshal.dumps(code)
    except Exception as error:
        # As pip does: packages carry templates, and sources for other versions, that nobody imports. MemoryError is what the parser says of a source that
        # is nested too deeply; the memory is bounded by a number, so that it is the same on each machine.
        write("left out " + " ".join(str(error).split()))
    else:
        write("compiled %d" % len(compiled), compiled)


def main(folder):
    write(sys.implementation.cache_tag)
    while True:
        line = sys.stdin.buffer.readline()
        if not line:
            return
        size, path = line.decode().rstrip("\n").split(" ", 1)
        source = sys.stdin.buffer.read(int(size))
        child = os.fork()
        if child == 0:
            try:
                compile_source(folder + path, source)
                os._exit(0)
            finally:
                os._exit(1)
        status = os.waitpid(child, 0)[1]
        if status:
            write("died " + ("by signal %d" % os.WTERMSIG(status) if os.WIFSIGNALED(status) else "of an error"))


main(sys.argv[1])
