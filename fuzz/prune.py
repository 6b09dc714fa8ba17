"""Keeps the smallest files of a corpus: at most 300 a target and 300 KB of them.

    fuzz/prune.py [TARGET…]

Run after `cargo fuzz cmin`, which keeps one file for everything that is reached, however large.
"""

import pathlib
import sys

FILES_MAX = 300
BYTES_MAX = 300_000

corpus = pathlib.Path(__file__).parent / "corpus"
for target in sys.argv[1:] or sorted(path.name for path in corpus.iterdir()):
    kept = kept_bytes = 0
    for file in sorted((corpus / target).iterdir(), key=lambda path: (path.stat().st_size, path.name)):
        size = file.stat().st_size
        if kept < FILES_MAX and kept_bytes + size <= BYTES_MAX:
            kept, kept_bytes = kept + 1, kept_bytes + size
        else:
            file.unlink()
    print(f"{target}: {kept} files, {kept_bytes} bytes")
