"""Random operators that move elements."""

import numpy as np

from qcompile.targets.tflite.builder import Options
from tests.targets.tflite.reference.draw import Draw, ints, same
from tests.targets.tflite.reference.one_op import OneOp, Spec


def reshape(d: Draw) -> OneOp:
    shape = d.shape()
    new = np.asarray([shape[0], -1, shape[3]], np.int32)
    return same(d, "RESHAPE", Options("ReshapeOptions", {"newShape": new}), ints(new), shape=shape)


def transpose(d: Draw) -> OneOp:
    return same(d, "TRANSPOSE", Options("TransposeOptions", {}), ints(d.rng.permutation(4)))


def squeeze(d: Draw) -> OneOp:
    options = Options("SqueezeOptions", {"squeezeDims": np.asarray([1], np.int32)})
    return same(d, "SQUEEZE", options, shape=(d.whole(1, 2), 1, d.whole(1, 5), d.whole(1, 5)))


def expand_dims(d: Draw) -> OneOp:
    return same(
        d, "EXPAND_DIMS", Options("ExpandDimsOptions", {}), ints([d.whole(0, 3)]), shape=d.shape(3)
    )


def tile(d: Draw) -> OneOp:
    return same(d, "TILE", Options("TileOptions", {}), ints([1, d.whole(1, 2), d.whole(1, 3), 1]))


def broadcast_to(d: Draw) -> OneOp:
    shape = (1, d.whole(1, 4), 1, d.whole(1, 4))
    target = ints([d.whole(1, 3), shape[1], d.whole(1, 4), shape[3]])
    one = same(d, "BROADCAST_TO", Options("BroadcastToOptions", {}), target, shape=shape)
    return OneOp(one.op, one.inputs, one.outputs, one.feeds, one.options, 2)


def concatenation(d: Draw) -> OneOp:
    shape, axis = d.shape(), d.whole(0, 3)
    other = tuple(d.whole(1, 5) if i == axis else n for i, n in enumerate(shape))
    x = d.spec(shape)
    inputs = [x, Spec(other, x.dtype, x.scale, x.zero)]
    options = Options("ConcatenationOptions", {"axis": axis, "fusedActivationFunction": 0})
    fed = {"in0": d.array(shape), "in1": d.array(other)}
    out = Spec((1,), x.dtype, x.scale, x.zero)
    return OneOp("CONCATENATION", inputs, [out], fed, options, 2).shaped()


def pack(d: Draw) -> OneOp:
    shape = d.shape(3)
    x = d.spec(shape)
    options = Options("PackOptions", {"axis": d.whole(0, 3), "valuesCount": 2})
    fed = {"in0": d.array(shape), "in1": d.array(shape)}
    out = Spec((1,), x.dtype, x.scale, x.zero)
    return OneOp("PACK", [x, x], [out], fed, options, 2).shaped()


def unpack(d: Draw) -> OneOp:
    shape, axis = d.shape(), d.whole(0, 3)
    options = Options("UnpackOptions", {"axis": axis, "num": shape[axis]})
    return same(d, "UNPACK", options, shape=shape, outputs=shape[axis])


def split(d: Draw) -> OneOp:
    parts, axis = d.whole(1, 3), d.whole(0, 3)
    shape = tuple(n * parts if i == axis else n for i, n in enumerate(d.shape()))
    x = d.spec(shape)
    outs = [Spec((1,), x.dtype, x.scale, x.zero)] * parts
    options = Options("SplitOptions", {"numSplits": parts})
    inputs = [ints(axis), x]
    return OneOp("SPLIT", inputs, outs, {"in1": d.array(shape)}, options, 2).shaped()


def split_v(d: Draw) -> OneOp:
    sizes, axis = [d.whole(1, 3) for _ in range(3)], d.whole(0, 3)
    shape = tuple(sum(sizes) if i == axis else n for i, n in enumerate(d.shape()))
    options = Options("SplitVOptions", {"numSplits": 3})
    return same(d, "SPLIT_V", options, ints(sizes), ints(axis), shape=shape, outputs=3)


def slice_(d: Draw) -> OneOp:
    shape = d.shape()
    begin = [d.whole(0, n - 1) for n in shape]
    size = [
        -1 if d.whole(0, 2) == 0 else d.whole(1, n - b) for n, b in zip(shape, begin, strict=True)
    ]
    return same(d, "SLICE", Options("SliceOptions", {}), ints(begin), ints(size), shape=shape)


def strided_slice(d: Draw) -> OneOp:
    shape = d.shape()
    begin = [d.whole(0, n - 1) for n in shape]
    end = [d.whole(b + 1, n) for n, b in zip(shape, begin, strict=True)]
    stride = [d.whole(1, 2) for _ in shape]
    fields = {
        "beginMask": d.whole(0, 15),
        "endMask": d.whole(0, 15),
        "shrinkAxisMask": d.whole(0, 1) * 8,
    }
    if fields["shrinkAxisMask"]:
        stride[3] = 1
    return same(
        d,
        "STRIDED_SLICE",
        Options("StridedSliceOptions", fields),
        ints(begin),
        ints(end),
        ints(stride),
        shape=shape,
    )


def pad(d: Draw) -> OneOp:
    widths = d.rng.integers(0, 3, (4, 2))
    return same(d, "PAD", Options("PadOptions", {}), ints(widths))


def pad_v2(d: Draw) -> OneOp:
    shape = d.shape()
    x = d.spec(shape)
    value = Spec((1,), x.dtype, x.scale, x.zero, 0, d.array((1,)))
    inputs = [x, ints(d.rng.integers(0, 3, (4, 2))), value]
    out = Spec((1,), x.dtype, x.scale, x.zero)
    fed = {"in0": d.array(shape)}
    return OneOp("PADV2", inputs, [out], fed, Options("PadV2Options", {}), 2).shaped()


def mirror_pad(d: Draw) -> OneOp:
    mode, shape = d.whole(0, 1), (1, d.whole(3, 5), d.whole(3, 5), d.whole(1, 4))
    widths = [[0, 0], [d.whole(0, 2), d.whole(0, 2)], [d.whole(0, 2), d.whole(0, 2)], [0, 0]]
    options = Options("MirrorPadOptions", {"mode": mode})
    return same(d, "MIRROR_PAD", options, ints(widths), shape=shape)


def gather(d: Draw) -> OneOp:
    shape, axis = d.shape(), d.whole(0, 3)
    options = Options("GatherOptions", {"axis": axis, "batchDims": 0})
    indices = ints(d.rng.integers(0, shape[axis], d.whole(1, 5)))
    return same(d, "GATHER", options, indices, shape=shape)


def gather_nd(d: Draw) -> OneOp:
    shape = d.shape()
    depth = d.whole(1, 4)
    indices = [d.rng.integers(0, n, 3) for n in shape[:depth]]
    return same(
        d, "GATHER_ND", Options("GatherNdOptions", {}), ints(np.stack(indices, -1)), shape=shape
    )


def reverse(d: Draw) -> OneOp:
    return same(d, "REVERSE_V2", Options("ReverseV2Options", {}), ints([d.whole(0, 3)]))


def depth_to_space(d: Draw) -> OneOp:
    block = d.whole(1, 3)
    shape = (d.whole(1, 2), d.whole(1, 4), d.whole(1, 4), d.whole(1, 3) * block**2)
    return same(
        d, "DEPTH_TO_SPACE", Options("DepthToSpaceOptions", {"blockSize": block}), shape=shape
    )


def space_to_depth(d: Draw) -> OneOp:
    block = d.whole(1, 3)
    shape = (d.whole(1, 2), d.whole(1, 3) * block, d.whole(1, 3) * block, d.whole(1, 4))
    return same(
        d, "SPACE_TO_DEPTH", Options("SpaceToDepthOptions", {"blockSize": block}), shape=shape
    )
