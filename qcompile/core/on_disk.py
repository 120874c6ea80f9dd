"""Large weights lie in a temporary file and are mapped: what is not looked at takes no memory."""

import math
import mmap
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np
import onnx_ir as ir

LARGE: Final = 1 << 20
"""Bytes from which on a tensor is moved."""

LEAST: Final = 64 << 20
"""A model whose large tensors take less in all is left as it is."""

_ALIGNED: Final = 64

_MAPS: "weakref.WeakSet[mmap.mmap]" = weakref.WeakSet()


def to_disk(model: ir.Model) -> None:
    """Move the large tensors of a model to a file without a name, in place; arrays stay arrays.

    The file goes with the last array. Where there is no room for it everything stays in memory.
    """
    found = list(_large(model))
    if sum(tensor.nbytes for _, tensor in found) < LEAST:
        return
    arrays = _moved([np.ascontiguousarray(tensor.numpy()) for _, tensor in found])
    for (value, old), array in zip(found, arrays, strict=True):
        value.const_value = ir.Tensor(array, dtype=old.dtype, name=old.name)


def map_external(model: ir.Model) -> None:
    """Map the large weights that lie in files of the user's, one map a file, in place.

    Their pages can be given back then as those of ``to_disk``.
    """
    found = [
        (value, tensor)
        for graph in model.graphs()
        for value in graph.initializers.values()
        if isinstance(tensor := value.const_value, ir.ExternalTensor)
        and tensor.nbytes >= LARGE
        and tensor.dtype == ir.DataType.FLOAT
    ]
    if sum(tensor.nbytes for _, tensor in found) < LEAST:
        return
    files: dict[str, mmap.mmap] = {}
    for value, tensor in found:
        path = str(tensor.path)
        if path not in files:
            with open(path, "rb") as file:
                files[path] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            _MAPS.add(files[path])
        shape = tensor.shape.numpy()
        array = np.frombuffer(files[path], "<f4", math.prod(shape), tensor.offset or 0)
        value.const_value = ir.Tensor(array.reshape(shape), dtype=tensor.dtype, name=tensor.name)


def arrays_to_disk(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same arrays in such a file, where they take ``LEAST`` or more."""
    if sum(array.nbytes for array in arrays.values()) < LEAST:
        return dict(arrays)
    moved = _moved([np.ascontiguousarray(array) for array in arrays.values()])
    return dict(zip(arrays, moved, strict=True))


def drop_pages() -> None:
    """Give back the memory of all pages that were looked at; they are read again when needed."""
    if not hasattr(mmap, "MADV_DONTNEED"):
        return
    for one in list(_MAPS):
        one.madvise(mmap.MADV_DONTNEED)


def is_mapped(array: np.ndarray) -> bool:
    """Whether an array lies in such a file."""
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, memoryview):
        base = base.obj
    return isinstance(base, mmap.mmap)


def _large(model: ir.Model) -> Iterator[tuple[ir.Value, ir.TensorProtocol]]:
    for graph in model.graphs():
        for value in graph.initializers.values():
            tensor = value.const_value
            if type(tensor) is not ir.Tensor or tensor.nbytes < LARGE:
                continue
            if tensor.dtype == ir.DataType.FLOAT and not is_mapped(tensor.numpy()):
                yield value, tensor


def _moved(arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
    starts, end = [], 0
    try:
        with tempfile.TemporaryFile(prefix="qcompile-") as file:
            for array in arrays:
                starts.append(end)
                file.write(array.reshape(-1).data)
                end = -(-file.tell() // _ALIGNED) * _ALIGNED
                file.seek(end)
            file.truncate(end)
            file.flush()
            mapped = mmap.mmap(file.fileno(), end, access=mmap.ACCESS_READ)
    except OSError:
        return arrays
    _MAPS.add(mapped)
    return [
        np.frombuffer(mapped, array.dtype, array.size, start).reshape(array.shape)
        for array, start in zip(arrays, starts, strict=True)
    ]
