"""Chooses a target's corpus: of all files that a merge looked at, those that together reach most, in at most 200 files and 140 KB.

    fuzz/prune.py TARGET…

Run after the merge of README.md, whose control file says what each file reaches. Files that people named stay, whatever they reach.
"""

import hashlib
import heapq
import pathlib
import re
import sys

FILES_MAX = 200
BYTES_MAX = 140_000

fuzz = pathlib.Path(__file__).parent


def reached(target):
    """What each file of the merge reaches: libFuzzer's control file has the paths, then a line `FT index feature…` for each."""
    lines = (fuzz / "merge" / f"{target}.txt").read_text().splitlines()
    count = int(lines[0])
    paths = [fuzz / line for line in lines[2 : 2 + count]]
    features = (line.split()[1:] for line in lines[2 + count :] if line.startswith("FT "))
    return {paths[int(index)]: set(map(int, rest)) for index, *rest in features}


for target in sys.argv[1:]:
    corpus = fuzz / "corpus" / target
    files = reached(target)
    # libFuzzer names a file by its SHA-1.
    named = [path for path in corpus.iterdir() if not re.fullmatch("[0-9a-f]{40}", path.name)]
    covered = set().union(*(files.get(path, set()) for path in named))
    size = {path: path.stat().st_size for path in {*files, *named}}
    count, size_bytes = len(named), sum(size[path] for path in named)
    # What a file costs is its share of both limits; the one that reaches most for that is next.
    cost = {path: 1 / FILES_MAX + size[path] / BYTES_MAX for path in files}
    waiting = [(-len(new) / cost[path], str(path), path) for path, new in files.items()]
    heapq.heapify(waiting)
    chosen = {}
    while waiting and count < FILES_MAX:
        worth, name, path = heapq.heappop(waiting)
        now = -len(files[path] - covered) / cost[path]
        if now == 0 or size_bytes + size[path] > BYTES_MAX:
            continue
        if now > worth:
            heapq.heappush(waiting, (now, name, path))
            continue
        covered |= files[path]
        content = path.read_bytes()
        chosen[hashlib.sha1(content).hexdigest()] = content
        count, size_bytes = count + 1, size_bytes + size[path]
    for path in set(corpus.iterdir()) - set(named):
        path.unlink()
    for name, content in chosen.items():
        (corpus / name).write_bytes(content)
    everything = len(set().union(*files.values()))
    print(f"{target}: {count} files, {size_bytes} bytes, {len(covered)} of {everything} places reached")
