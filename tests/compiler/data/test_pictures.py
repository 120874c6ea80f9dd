"""Picture files: geometry, colour and layout pixel by pixel, and each refusal by name."""

import numpy as np
import pytest
from PIL import Image

from qcompile.compiler.data.open import open_data
from qcompile.compiler.data.options import DataOptions
from qcompile.compiler.data.pictures import resized
from qcompile.compiler.data.preprocess import Preprocess
from qcompile.core.errors import Code
from tests.compiler.data.helpers import one_input, pixels, refused, signature, write_picture


def only(folder, sig, **options):
    return open_data(folder, sig, Preprocess(**options))[0].feeds["input"]


def test_pixels_are_exact_in_both_layouts(tmp_path):
    raw = pixels(6, 8)
    write_picture(tmp_path / "a.png", raw)
    want = (raw.astype(np.float64) / 255).astype(np.float32)
    got = only(tmp_path, one_input("N", 6, 8, 3), std=255)
    assert got.dtype == np.float32
    assert got.flags.c_contiguous
    assert np.array_equal(got, want[None])
    got = only(tmp_path, one_input(1, 3, 6, 8), std=255)
    assert got.flags.c_contiguous
    assert np.array_equal(got, want.transpose(2, 0, 1)[None])


def test_colours(tmp_path):
    raw = pixels(4, 5)
    write_picture(tmp_path / "a.png", raw)
    bgr = only(tmp_path, one_input(1, 4, 5, 3), color="bgr")
    assert np.array_equal(bgr[0], raw[:, :, ::-1])
    gray = np.asarray(Image.fromarray(raw).convert("L"))
    for color in ("gray", "auto"):
        assert np.array_equal(only(tmp_path, one_input(1, 1, 4, 5), color=color)[0, 0], gray)


def test_gray_files_feed_colour_models(tmp_path):
    raw = pixels(4, 5, channels=1)
    write_picture(tmp_path / "a.png", raw)
    assert np.array_equal(only(tmp_path, one_input(1, 4, 5, 3))[0], np.repeat(raw, 3, 2))


@pytest.mark.parametrize(("height", "width", "top", "left"), [(9, 12, 2, 3), (8, 11, 2, 3)])
def test_crop_is_central(tmp_path, height, width, top, left):
    raw = pixels(height, width)
    write_picture(tmp_path / "a.png", raw)
    got = only(tmp_path, one_input(1, 4, 5, 3), crop=(4, 5))
    assert np.array_equal(got[0], raw[top : top + 4, left : left + 5])


@pytest.mark.parametrize("name", ["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"])
def test_resize_is_pillows(tmp_path, name):
    raw = pixels(9, 12)
    write_picture(tmp_path / "a.png", raw)
    want = Image.fromarray(raw).resize((7, 5), Image.Resampling[name.upper()])
    got = only(tmp_path, one_input(1, 5, 7, 3), resize=(5, 7), filter=name)
    assert np.array_equal(got[0], np.asarray(want))


def test_shorter_side_then_crop(tmp_path):
    raw = pixels(20, 33)
    write_picture(tmp_path / "a.png", raw)
    small = np.asarray(Image.fromarray(raw).resize((16, 10), Image.Resampling.BILINEAR))
    got = only(tmp_path, one_input(1, 8, 8, 3), resize=10, crop=8)
    assert np.array_equal(got[0], small[1:9, 4:12])


def test_resized_keeps_the_aspect_ratio():
    assert resized(500, 375, 256) == (341, 256)
    assert resized(375, 500, 256) == (256, 341)
    assert resized(10, 10, (3, 4)) == (3, 4)


def test_sizes_may_differ_where_the_model_is_open(tmp_path):
    write_picture(tmp_path / "a.png", pixels(4, 5))
    write_picture(tmp_path / "b.png", pixels(6, 3))
    data = open_data(tmp_path, one_input("N", 3, "H", "W"))
    assert [s.feeds["input"].shape for s in (data[0], data[1])] == [(1, 3, 4, 5), (1, 3, 6, 3)]


def test_integer_models_get_bytes(tmp_path):
    raw = pixels(4, 5)
    write_picture(tmp_path / "a.png", raw)
    got = only(tmp_path, one_input(1, 4, 5, 3, dtype="uint8"))
    assert got.dtype == np.uint8
    assert np.array_equal(got[0], raw)


def test_pictures_are_preprocessed_also_where_arrays_are_ready(tmp_path):
    write_picture(tmp_path / "a.png", pixels(4, 5))
    assert only(tmp_path, one_input(1, 4, 5, 3), std=255, arrays="ready").max() <= 1


def test_a_fixed_batch_is_filled_with_pictures(tmp_path):
    for k in range(5):
        write_picture(tmp_path / f"{k}_.png", pixels(4, 5, k))
    sig = one_input(2, 4, 5, 3)
    data = open_data(tmp_path, sig, options=DataOptions(label_pattern=r"^(\d)_"))
    assert len(data) == 2
    assert np.array_equal(data[1].feeds["input"], np.stack([pixels(4, 5, 2), pixels(4, 5, 3)]))
    assert np.array_equal(data[1].label, [2, 3])


def test_a_constant_input_beside_the_picture(tmp_path):
    write_picture(tmp_path / "a.png", pixels(4, 5))
    sig = signature(("image", "float32", (1, 3, 4, 5)), ("scale", "float32", (1, 2)))
    data = open_data(tmp_path, sig, options=DataOptions(constants={"scale": 2.0}))
    assert data[0].feeds["scale"].tolist() == [[2.0, 2.0]]
    refused(Code.DATA_NAMES, "image, scale", when=lambda: open_data(tmp_path, sig))


def test_wrong_size_says_what_to_set(tmp_path):
    write_picture(tmp_path / "a.png", pixels(4, 5))
    data = open_data(tmp_path, one_input(1, 3, 8, 8))
    refused(Code.DATA_SHAPE, "a.png", "4 x 5", "8 x 8", "resize", when=lambda: data[0])


def test_smaller_than_the_crop(tmp_path):
    write_picture(tmp_path / "a.png", pixels(4, 5))
    data = open_data(tmp_path, one_input(1, 3, 8, 8), Preprocess(crop=8))
    refused(Code.DATA_SHAPE, "a.png", "smaller than the crop", when=lambda: data[0])


@pytest.mark.parametrize("content", [b"", b"no picture at all", b"\xff\xd8\xff\xe0 broken"])
def test_files_that_are_no_pictures(tmp_path, content):
    (tmp_path / "bad.jpg").write_bytes(content)
    data = open_data(tmp_path, one_input(1, 3, 8, 8))
    refused(Code.DATA_UNREADABLE, "bad.jpg", when=lambda: data[0])


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "webp"])
def test_truncated_pictures(tmp_path, suffix):
    path = write_picture(tmp_path / f"bad.{suffix}", pixels(64, 64))
    path.write_bytes(path.read_bytes()[:-200])
    data = open_data(tmp_path, one_input(1, 3, 64, 64))
    refused(Code.DATA_UNREADABLE, f"bad.{suffix}", when=lambda: data[0])


def test_deep_pictures_are_refused(tmp_path):
    Image.fromarray(np.zeros((4, 5), np.uint16)).save(tmp_path / "deep.png")
    data = open_data(tmp_path, one_input(1, 3, 4, 5))
    refused(Code.DATA_UNREADABLE, "deep.png", "8 bits", when=lambda: data[0])


@pytest.mark.parametrize(
    ("shape", "code", "word"),
    [
        ((1, 640), Code.DATA_SHAPE, "not of 4 dimensions"),
        ((1, 2, 8, 8), Code.BAD_CONFIG, "layout"),
        ((1, 3, 8, 3), Code.BAD_CONFIG, "layout"),
        ((1, 4, 8, 8), Code.BAD_CONFIG, "layout"),
        (None, Code.DATA_SHAPE, "unknown shape"),
    ],
)
def test_inputs_that_take_no_pictures(tmp_path, shape, code, word):
    write_picture(tmp_path / "a.png", pixels(8, 8))
    sig = signature(("input", "float32", shape))
    refused(code, word, "'input'", when=lambda: open_data(tmp_path, sig))


def test_wrong_number_of_channels(tmp_path):
    write_picture(tmp_path / "a.png", pixels(8, 8))
    refused(
        Code.DATA_SHAPE, "rgb with 3 channels", "has 4",
        when=lambda: open_data(tmp_path, one_input(1, 4, 8, 8), Preprocess(layout="nchw")),
    )  # fmt: skip


@pytest.mark.models
def test_mobilenet_pictures(models_dir):
    """The MANIFEST's preprocessing, against the plain way of doing it."""
    data = open_data(
        models_dir / "imagenet", one_input("N", 3, 224, 224),
        Preprocess(mean=127.5, std=127.5, crop=224),
        options=DataOptions(label_pattern=r"^(\d+)_"),
    )  # fmt: skip
    assert len(data) == 750
    path = sorted((models_dir / "imagenet").glob("*.jpg"))[100]
    raw = np.asarray(Image.open(path).convert("RGB"))[16:240, 16:240].transpose(2, 0, 1)
    assert data[100].label == int(path.name[:4])
    assert data[100].source == f"imagenet/{path.name}"
    want = ((raw.astype(np.float64) - 127.5) / 127.5).astype(np.float32)
    assert np.array_equal(data[100].feeds["input"][0], want)
