"""Frames: what is sent arrives, and nothing that arrives does harm."""

import hashlib
import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from qcompile.targets.devices.wire import (
    MAGIC,
    MOST_BLOBS,
    MOST_HEADER,
    Header,
    Read,
    WireError,
    pack,
    pack_arrays,
    read_frame,
    unpack_arrays,
)

TYPES = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", "complex64", "complex128"),
)


def reader(data: bytes, most: int = 1 << 30) -> Read:
    """Reads bytes, as many at a time as asked for and at most ``most``."""
    rest = memoryview(data)

    def read(size: int) -> bytes:
        nonlocal rest
        part, rest = bytes(rest[: min(size, most)]), rest[min(size, most) :]
        return part

    return read


def framed(header: object, *blobs: bytes) -> bytes:
    text = json.dumps(header).encode()
    return MAGIC + struct.pack("<I", len(text)) + text + b"".join(blobs)


def there_and_back(array: np.ndarray) -> np.ndarray:
    said, blobs = pack_arrays([("x", array)])
    header, got = read_frame(reader(b"".join(pack({"arrays": said}, blobs)), most=7))
    ((name, out),) = unpack_arrays(header["arrays"], got)
    assert name == "x"
    return out


@given(
    st.dictionaries(st.text(), st.integers() | st.text() | st.none()).filter(
        lambda d: "blobs" not in d
    ),
    st.lists(st.binary(max_size=50), max_size=4),
    st.integers(1, 9),
)
def test_what_is_sent_arrives(header: Header, blobs: list[bytes], most: int) -> None:
    stream = b"".join(pack(header, blobs)) * 2
    read = reader(stream, most)
    for _ in range(2):
        assert read_frame(read) == (header, blobs)
    with pytest.raises(EOFError):
        read_frame(read)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(), (1,), (0,), (3, 0, 2), (2, 3, 5)])
def test_every_type_and_shape_comes_back_the_same(dtype: str, shape: tuple[int, ...]) -> None:
    raw = np.random.default_rng(1).integers(0, 255, (*shape, np.dtype(dtype).itemsize))
    bits = raw.astype(np.uint8) & (1 if dtype == "bool" else 255)
    array = bits.view(dtype).reshape(shape)
    out = there_and_back(array)
    assert (out.dtype, out.shape) == (array.dtype, array.shape)
    assert out.tobytes() == array.tobytes()  # bits: also of a NaN
    assert out.dtype.isnative
    assert out.flags.writeable


@given(hnp.arrays(st.sampled_from(["float32", "int16", "uint8"]), hnp.array_shapes(min_side=0)))
def test_order_in_memory_does_not_matter(array: np.ndarray) -> None:
    for other in (array.T, array[::-1], np.asfortranarray(array)):
        assert np.array_equal(there_and_back(other), other, equal_nan=other.dtype.kind == "f")


@pytest.mark.parametrize("dtype", ["int16", "int32", "float64", "complex64"])
def test_the_wire_is_little_endian(dtype: str) -> None:
    values = np.arange(4).astype(dtype)
    _, (blob,) = pack_arrays([("x", values.astype(values.dtype.newbyteorder(">")))])
    assert blob == values.astype(values.dtype.newbyteorder("<")).tobytes()


@pytest.mark.parametrize(
    "value", [np.array(["a"]), np.array([object()]), np.array([b"a"]), np.zeros(1, "datetime64[s]")]
)
def test_other_types_are_refused(value: np.ndarray) -> None:
    with pytest.raises(WireError, match="cannot be sent"):
        pack_arrays([("x", value)])


@given(st.binary(max_size=200))
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises((WireError, EOFError)):
        read_frame(reader(data))


@given(st.binary(max_size=60))
def test_garbage_behind_a_good_start_is_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        read_frame(reader(MAGIC + struct.pack("<I", len(data) + 1) + data))


@given(st.data())
def test_a_frame_that_is_cut_off_is_refused(data: st.DataObject) -> None:
    whole = b"".join(pack({"op": "run"}, [b"some bytes", b""]))
    cut = data.draw(st.integers(1, len(whole) - 1))
    with pytest.raises(WireError, match="ended within"):
        read_frame(reader(whole[:cut]))


@given(st.data())
def test_a_changed_byte_never_passes_for_the_blob(data: st.DataObject) -> None:
    header, blobs = {"op": "run"}, [b"the weights of a model"]
    whole = bytearray(b"".join(pack(header, blobs)))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    try:
        _, got = read_frame(reader(bytes(whole)))
    except WireError:
        return
    assert got in (blobs, [])  # the header may say other things; the blob is what was sent


def test_damage_is_named() -> None:
    whole = b"".join(pack({}, [b"weights"]))
    with pytest.raises(WireError, match="damaged"):
        read_frame(reader(whole[:-1] + b"S"))


HUGE = 1 << 62
SUM = hashlib.sha256(b"").hexdigest()


@pytest.mark.parametrize(
    "data",
    [
        MAGIC + struct.pack("<I", MOST_HEADER + 1),
        MAGIC + b"\xff\xff\xff\xff",
        framed({"blobs": [[HUGE, SUM]]}),
        framed({"blobs": [[MOST_BLOBS, SUM], [1, SUM]]}),
        framed({"blobs": [[MOST_BLOBS, SUM]]}),  # allowed, but it does not come
        framed({"blobs": [[-1, SUM]]}),
        framed({"blobs": [[1.5, SUM]]}),
        framed({"blobs": [[True, SUM]]}, b"x"),
        framed({"blobs": [["3", SUM]]}),
        framed({"blobs": [3]}),
        framed({"blobs": {"a": 1}}),
        framed({}),
        framed([]),
        framed("text"),
        framed(None),
        MAGIC + struct.pack("<I", 200_000) + b"[" * 200_000,
    ],
)
def test_lengths_that_make_no_sense_are_refused_at_once(data: bytes) -> None:
    """Nothing of the size that is claimed is set aside: these would not fit into memory."""
    with pytest.raises(WireError):
        read_frame(reader(data))


@pytest.mark.parametrize(
    ("said", "blobs"),
    [
        ([["x", "float32", [2]]], [b"1234"]),
        ([["x", "float32", [1]]], []),
        ([["x", "float32", [-1]]], [b"1234"]),
        ([["x", "float32", [1.0]]], [b"1234"]),
        ([["x", "float32", [HUGE, HUGE, 0, HUGE]]], [b""]),
        ([["x", "float32", [1] * 100]], [b"1234"]),
        ([["x", "object", [1]]], [b"12345678"]),
        ([["x", "<f4", [1]]], [b"1234"]),
        ([["x", "float32"]], [b"1234"]),
        ([None], [b""]),
        (7, []),
    ],
)
def test_descriptions_that_do_not_fit_are_refused(said: object, blobs: list[bytes]) -> None:
    with pytest.raises(WireError):
        unpack_arrays(said, blobs)
