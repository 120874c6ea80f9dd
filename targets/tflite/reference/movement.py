"""Operators that move elements and change none: shapes, slices, joins, pads, gathers."""

import numpy as np

from qcompile.targets.tflite.reference.call import Call, Kernel


def reshape(call: Call) -> Kernel:
    """Another shape, from the second input or the options; one size may be -1."""
    shape = call.integers(1) if call.has(1) else [int(v) for v in call.option("newShape", ())]
    return [call.array(0).reshape(shape)]


def squeeze(call: Call) -> Kernel:
    """Without axes of length 1: those named, or all."""
    x = call.array(0)
    axes = tuple(int(a) % x.ndim for a in call.option("squeezeDims", ()))
    return [np.squeeze(x, axis=axes or None)]


def expand_dims(call: Call) -> Kernel:
    """With one more axis of length 1."""
    return [np.expand_dims(call.array(0), call.integers(1)[0])]


def shape(call: Call) -> Kernel:
    """The shape as a tensor."""
    return [np.asarray(call.array(0).shape, call.y.dtype)]


def transpose(call: Call) -> Kernel:
    """Axes in another order."""
    return [np.ascontiguousarray(call.array(0).transpose(call.integers(1)))]


def reverse(call: Call) -> Kernel:
    """Backwards along axes."""
    return [np.flip(call.array(0), axis=tuple(call.integers(1)))]


def tile(call: Call) -> Kernel:
    """Repeated along each axis."""
    return [np.tile(call.array(0), call.integers(1))]


def broadcast_to(call: Call) -> Kernel:
    """Repeated along axes of length 1, to a shape."""
    return [np.broadcast_to(call.array(0), call.integers(1)).copy()]


def fill(call: Call) -> Kernel:
    """One value in a shape."""
    return [np.full(call.integers(0), call.array(1).reshape(()))]


def concatenation(call: Call) -> Kernel:
    """Joined along an axis; parameters are shared."""
    arrays = [call.array(i) for i in range(len(call.arrays))]
    return [np.concatenate(arrays, axis=int(call.option("axis", 0)))]


def pack(call: Call) -> Kernel:
    """Joined along a new axis."""
    arrays = [call.array(i) for i in range(len(call.arrays))]
    return [np.stack(arrays, axis=int(call.option("axis", 0)))]


def unpack(call: Call) -> Kernel:
    """Taken apart along an axis."""
    axis = int(call.option("axis", 0))
    x = call.array(0)
    return [x.take(i, axis=axis) for i in range(x.shape[axis])]


def split(call: Call) -> Kernel:
    """Equal parts; the axis is the first input."""
    return np.split(call.array(1), len(call.outputs), axis=call.integers(0)[0])


def split_v(call: Call) -> Kernel:
    """Parts of given sizes, one of which may be -1; the axis is the third input."""
    sizes, axis = call.integers(1), call.integers(2)[0]
    x = call.array(0)
    known = sum(size for size in sizes if size >= 0)
    sizes = [x.shape[axis] - known if size < 0 else size for size in sizes]
    return np.split(x, np.cumsum(sizes)[:-1], axis=axis)


def slice_(call: Call) -> Kernel:
    """From begin on, size elements an axis (-1: to the end)."""
    x = call.array(0)
    ranges = tuple(
        slice(begin, extent if size < 0 else begin + size)
        for begin, size, extent in zip(call.integers(1), call.integers(2), x.shape, strict=True)
    )
    return [x[ranges].copy()]


def strided_slice(call: Call) -> Kernel:
    """Begin, end and stride an axis; bit i of a mask says what entry i means instead."""
    begin, end, stride = (call.integers(i) for i in (1, 2, 3))
    index: list[slice | int | None] = [
        _range(call, i, *bounds) for i, bounds in enumerate(zip(begin, end, stride, strict=True))
    ]
    ellipsis = int(call.option("ellipsisMask", 0))
    if ellipsis:
        place = ellipsis.bit_length() - 1
        missing = call.array(0).ndim - (len(index) - 1) + index.count(None)
        index[place : place + 1] = [slice(None)] * missing
    return [np.asarray(call.array(0)[tuple(index)]).copy()]


def _range(call: Call, i: int, begin: int, end: int, stride: int) -> slice | int | None:
    def masked(name: str) -> bool:
        return bool(int(call.option(name, 0)) >> i & 1)

    if masked("newAxisMask"):
        return None
    if masked("shrinkAxisMask"):
        return 0 if masked("beginMask") else begin
    first = None if masked("beginMask") else begin
    last = None if masked("endMask") else end
    if call.option("offset", False) and last is not None:
        last = (first or 0) + last
    return slice(first, last, stride)


def pad(call: Call) -> Kernel:
    """Padded by the zero point."""
    widths = call.array(1).tolist()
    return [np.pad(call.array(0), widths, constant_values=call.y.zero_point)]


def pad_v2(call: Call) -> Kernel:
    """Padded by a value, which shares the parameters."""
    return [np.pad(call.array(0), call.array(1).tolist(), constant_values=call.array(2).item())]


def mirror_pad(call: Call) -> Kernel:
    """Padded by the mirror image: mode 0 without the edge, 1 with it."""
    mode = "symmetric" if int(call.option("mode", 0)) else "reflect"
    return [np.pad(call.array(0), call.array(1).tolist(), mode=mode)]  # type: ignore[call-overload]


def gather(call: Call) -> Kernel:
    """Elements along an axis, by indices; the first ``batchDims`` axes run together."""
    x, indices = call.array(0), call.array(1)
    batch = int(call.option("batchDims", 0))
    axis = int(call.option("axis", 0)) % x.ndim
    if batch == 0:
        return [np.take(x, indices, axis=axis)]
    lead = x.shape[:batch]
    flat, where = x.reshape(-1, *x.shape[batch:]), indices.reshape(-1, *indices.shape[batch:])
    parts = [np.take(a, i, axis=axis - batch) for a, i in zip(flat, where, strict=True)]
    return [np.stack(parts).reshape(*lead, *parts[0].shape)]


def gather_nd(call: Call) -> Kernel:
    """Elements or slices by tuples of indices along the last axis."""
    return [call.array(0)[tuple(np.moveaxis(call.array(1), -1, 0))]]


def depth_to_space(call: Call) -> Kernel:
    """Channels to blocks of pixels (NHWC, the block's position before the channel)."""
    x, block = call.array(0), int(call.option("blockSize"))
    n, h, w, c = x.shape
    parts = x.reshape(n, h, w, block, block, c // block**2).transpose(0, 1, 3, 2, 4, 5)
    return [parts.reshape(n, h * block, w * block, c // block**2)]


def space_to_depth(call: Call) -> Kernel:
    """Blocks of pixels to channels."""
    x, block = call.array(0), int(call.option("blockSize"))
    n, h, w, c = x.shape
    parts = x.reshape(n, h // block, block, w // block, block, c).transpose(0, 1, 3, 2, 4, 5)
    return [parts.reshape(n, h // block, w // block, block**2 * c)]
