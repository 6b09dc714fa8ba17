"""Thins a corpus: at most 200 files and 140 KB a target. Kept are those that people named, and of the others an even choice by size.

    fuzz/prune.py [TARGET…]

Run after a merge (README.md), which adds a file for everything that is reached, some hundred.
"""

import pathlib
import re
import sys

FILES_MAX = 200
BYTES_MAX = 140_000

corpus = pathlib.Path(__file__).parent / "corpus"
for target in sys.argv[1:] or sorted(path.name for path in corpus.iterdir()):
    files = sorted((corpus / target).iterdir(), key=lambda path: (path.stat().st_size, path.name))
    # libFuzzer names a file by its SHA-1.
    made = [path for path in files if re.fullmatch("[0-9a-f]{40}", path.name)]
    kept = [path for path in files if path not in set(made)]
    room = FILES_MAX - len(kept)
    if room > 0 and made:
        step = max(1, len(made) / room)
        kept += [made[int(i * step)] for i in range(min(room, len(made)))]
    while sum(path.stat().st_size for path in kept) > BYTES_MAX:
        largest = max((path for path in kept if path in set(made)), key=lambda path: path.stat().st_size)
        kept.remove(largest)
    for path in set(files) - set(kept):
        path.unlink()
    print(f"{target}: {len(kept)} files, {sum(path.stat().st_size for path in kept)} bytes")
