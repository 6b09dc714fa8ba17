"""What a SavedModel has: where it is among the model's files, which of its meta graphs a signature is taken from, and which tensors stand for a field.

Not here: loading and computing, which need TensorFlow. What must stay true: meta graphs are preferred as `hs` prefers them when it reads the contract
(src/contract/saved_model_meta.rs), so that what was inferred at build time is what is served.
"""

import os
from dataclasses import dataclass
from typing import Optional, Tuple

import hydro_serving_grpc as hs
from lamina_runtime import dtypes
from lamina_runtime.contract import Field
from lamina_runtime.settings import Refused

FILES = ("saved_model.pb", "saved_model.pbtxt")

# A model folder that was packed with what lies around it is found; the whole file system of a mistaken mount is not walked.
FOLDERS_MAX = 10_000

# TensorInfo's references are the dtype that they refer to, and this.
REFERENCES = 100


@dataclass(frozen=True)
class Placed:
    """A field of the contract, and the tensors of the graph that are its value."""

    name: str
    # What the contract says, and what the graph's tensor has. 0: nothing.
    declared_dtype: int
    dtype: int
    # One tensor; or the values, indices and dense shape of a sparse one; or those of the parts, one after another.
    tensors: Tuple[str, ...]
    # The contract's number of dimensions; None where it says none.
    rank: Optional[int] = None
    is_sparse: bool = False
    parts: Tuple["Placed", ...] = ()


def find(files):
    """The folder with the SavedModel: the payload itself, or the one folder below it that is one."""
    level = [files]
    seen = 0
    while level:
        found = [folder for folder in level if any(os.path.isfile(os.path.join(folder, name)) for name in FILES)]
        if len(found) > 1:
            raise Refused(f"there are several SavedModels in {files}, and one is served: {', '.join(found[:10])}")
        if found:
            return found[0]
        below = []
        for folder in level:
            try:
                below += sorted(entry.path for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False))
            except OSError as error:
                raise Refused(f"the folder {folder} cannot be listed ({error.strerror})") from None
        seen += len(below)
        if seen > FOLDERS_MAX:
            break
        level = below
    raise Refused(f"there is no saved_model.pb in {files}, nor in a folder below it: does the payload name the SavedModel's folder?")


def choose(meta_graphs, declared, tags):
    """The meta graph that has this signature of the contract, with its fields. `tags` are those that were asked for, or None."""
    candidates = _preferred(meta_graphs, tags)
    having = [graph for graph in candidates if declared.name in graph.signature_def]
    if not having:
        known = sorted({name for graph in candidates for name in graph.signature_def if not name.startswith("__")})
        raise Refused(f"the SavedModel has no signature {declared.name!r}, which the contract asks for; it has: {', '.join(known) or 'none'}")
    complaints = [_complaint(graph.signature_def[declared.name], declared) for graph in having]
    for graph, complaint in zip(having, complaints):
        if complaint is None:
            return graph
    raise Refused(f"the SavedModel's signature {declared.name!r} is not the contract's: {complaints[0]}")


def placed(field, info):
    encoding = info.WhichOneof("encoding")
    if encoding == "composite_tensor":
        components = info.composite_tensor.components
        by_name = {part.name: part for part in field.subfields}
        parts = tuple(placed(by_name.get(str(index), Field(str(index), 0, None)), component) for index, component in enumerate(components))
        return Placed(field.name, 0, 0, tuple(name for part in parts for name in part.tensors), parts=parts)
    dtype = info.dtype - REFERENCES if info.dtype > REFERENCES else info.dtype
    if dtype not in dtypes.BY_NUMBER or dtypes.BY_NUMBER[dtype].memory is None and dtype != hs.DT_STRING:
        raise Refused(f"the SavedModel's field {field.name!r} has TensorFlow's type number {info.dtype}, whose values no request can carry")
    rank = None if field.shape is None else len(field.shape)
    if encoding == "coo_sparse":
        sparse = info.coo_sparse
        names = (sparse.values_tensor_name, sparse.indices_tensor_name, sparse.dense_shape_tensor_name)
        return Placed(field.name, field.dtype, dtype, names, rank, is_sparse=True)
    return Placed(field.name, field.dtype, dtype, (info.name,), rank)


def _preferred(meta_graphs, tags):
    """Best first. Of two with the same tags TensorFlow's loader takes the first, and so do we."""
    tagged = {}
    for graph in meta_graphs:
        tagged.setdefault(frozenset(graph.meta_info_def.tags), graph)
    if tags is not None:
        if tags not in tagged:
            raise Refused(f"the SavedModel has no meta graph with the tags {_words(tags)}; it has: {', '.join(map(_words, tagged))}")
        return [tagged[tags]]
    return sorted(tagged.values(), key=lambda graph: (set(graph.meta_info_def.tags) != {"serve"}, "serve" not in graph.meta_info_def.tags))


def _complaint(definition, declared):
    for kind, infos, fields in (("input", definition.inputs, declared.inputs), ("output", definition.outputs, declared.outputs)):
        for field in fields:
            if field.name not in infos:
                return f"it has no {kind} {field.name!r}; its {kind}s are: {', '.join(sorted(infos)) or 'none'}"
    asked = {field.name for field in declared.inputs}
    lacking = sorted(name for name in definition.inputs if name not in asked and name not in definition.defaults)
    if lacking:
        return f"it needs the input{'s' if len(lacking) > 1 else ''} {', '.join(lacking)}, of which the contract says nothing"
    return None


def _words(tags):
    return "{" + ", ".join(sorted(tags)) + "}"
