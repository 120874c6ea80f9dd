"""Every format is read back as it was written, and a broken file is refused by name."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from qcompile.compiler.encodings.formats import FORMATS, read_encodings
from qcompile.compiler.encodings.record import Encoding, Encodings, as_text
from qcompile.core.errors import Code, QCompileError
from qcompile.core.numerics.affine import LIMITS, zero_offset
from qcompile.core.plan import QuantParams

SCALES = st.floats(2.0**-60, 2.0**60, width=32)


@st.composite
def encodings(draw: st.DrawFn) -> Encoding:
    dtype = draw(st.sampled_from(["uint8", "int8", "int16", "uint4", "int4"]))
    channels = draw(st.none() | st.integers(2, 5))
    shape = () if channels is None else (channels,)
    scale = draw(arrays(np.float32, shape, elements=SCALES))
    low, high = LIMITS[dtype]
    symmetric = low < 0
    zero = zero_offset(dtype) if symmetric else draw(st.integers(low, high))
    params = QuantParams(np.asarray(scale), np.full(shape, zero, np.int64))
    axis = None if channels is None else 0
    return Encoding("x", dtype, params, axis, symmetric, channels is not None)


def read_back(encoding: Encoding, form: str, folder: Path) -> Encodings:
    path = folder / "e.json"
    path.write_bytes(as_text(FORMATS[form]([encoding])))
    return read_encodings(path)


@pytest.mark.parametrize("form", FORMATS)
@given(encoding=encodings())
def test_what_is_written_is_read(
    encoding: Encoding, form: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    found = read_back(encoding, form, tmp_path_factory.getbasetemp()).by_name["x"]
    assert found.dtype == encoding.dtype
    assert found.params.same_as(encoding.params)
    assert found.params.scale.shape == encoding.params.scale.shape
    if form in {"ort", "aimet-2.0.0"}:
        assert found.axis == encoding.axis


def aimet_entry(**changes: object) -> dict[str, object]:
    entry = {
        "name": "x", "bw": 8, "dtype": "INT", "enc_type": "PER_TENSOR", "is_sym": False,
        "scale": [0.5], "offset": [-3],
    }  # fmt: skip
    return entry | changes


def aimet(*entries: dict[str, object]) -> dict[str, object]:
    return {"version": "1.0.0", "activation_encodings": list(entries), "param_encodings": []}


def read(document: object, folder: Path) -> Encodings:
    (folder / "e.json").write_text(json.dumps(document))
    return read_encodings(folder / "e.json")


def test_an_offset_is_minus_the_zero_point(tmp_path: Path) -> None:
    found = read(aimet(aimet_entry()), tmp_path).by_name["x"]
    assert (found.dtype, float(found.params.scale), int(found.params.zero_point)) == (
        "uint8", 0.5, 3,
    )  # fmt: skip


def test_a_symmetric_offset_of_aimet_is_zero_in_int8(tmp_path: Path) -> None:
    entry = aimet_entry(is_sym=True, offset=[-128, -128], scale=[0.5, 1], enc_type="PER_CHANNEL")
    found = read(aimet(entry), tmp_path).by_name["x"]
    assert found.dtype == "int8"
    assert found.params.zero_point.tolist() == [0, 0]


def test_a_range_without_a_scale_is_worked_out(tmp_path: Path) -> None:
    record = {"bitwidth": 8, "dtype": "int", "is_symmetric": "False", "min": -1.0, "max": 1.55}
    found = read({"activation_encodings": {"x": [record]}, "param_encodings": {}}, tmp_path)
    params = found.by_name["x"].params
    assert float(params.scale) == pytest.approx(0.01, rel=1e-6)
    assert int(params.zero_point) == 100


def test_overrides_by_range_follow_our_rule(tmp_path: Path) -> None:
    table = {"x": [{"quant_type": "QUInt8", "rmin": 0.0, "rmax": 255.0}]}
    params = read({"TensorQuantOverrides": table}, tmp_path).by_name["x"].params
    assert (float(params.scale), int(params.zero_point)) == (1.0, 0)


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        (aimet_entry(name="y", dtype="FLOAT", bw=16), "float"),
        (aimet_entry(name="y", bw=5), "5 bits"),
        (aimet_entry(name="y", enc_type="LPBQ"), "LPBQ"),
    ],
)
def test_what_is_no_integer_grid_is_left_with_a_reason(
    entry: dict[str, object], why: str, tmp_path: Path
) -> None:
    found = read(aimet(aimet_entry(), entry), tmp_path)
    assert list(found.by_name) == ["x"]
    assert why in found.left["y"]


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (["x"], "no table"),
        ({"version": "7"}, "version '7'"),
        (aimet(aimet_entry(scale=[0.0])), "x: a scale must be finite"),
        (aimet(aimet_entry(scale=[1.0, 2.0])), "x: 2 scales"),
        (aimet(aimet_entry(offset=[1])), "x: a zero point of uint8"),
        (aimet(aimet_entry(offset=[-256])), "x: a zero point of uint8"),
        (aimet(aimet_entry(), aimet_entry()), "'x' is given twice"),
        (aimet({"name": "x", "dtype": "INT"}), "x: key 'enc_type' is missing"),
        (aimet({"bw": 8}), "names no tensor"),
        ({"version": "1.0.0", "activation_encodings": {}}, "must be a list"),
        ({"version": "0.6.1", "activation_encodings": []}, "must be a table"),
        ({"x": {"scale": 1}}, "x: it must be a list of tables"),
        ({"x": [{"scale": 1, "zero_point": 0}]}, "x: key 'quant_type' is missing"),
        ({"x": [{"scale": 1, "zero_point": 0, "quant_type": "QFLOAT8E4M3FN"}]}, "QFLOAT8"),
        ({"x": [{"scale": 1, "quant_type": "QInt8"}]}, "x: key 'zero_point' is missing"),
        (
            {"x": [{"rmin": 0, "rmax": 1, "reduce_range": True, "quant_type": "QInt8"}]},
            "reduce_range",
        ),
        ({"x": [{"rmin": 2, "rmax": 1, "quant_type": "QInt8"}]}, "rmin"),
        ({"x": [{"symmetric": True}]}, "gives no tensor an integer grid"),
    ],
)
def test_a_broken_file_is_refused(document: object, why: str, tmp_path: Path) -> None:
    with pytest.raises(QCompileError) as caught:
        read(document, tmp_path)
    assert caught.value.code == Code.BAD_ENCODINGS
    assert why in caught.value.message


def test_a_file_that_is_no_json_is_refused(tmp_path: Path) -> None:
    for text in (b"", b"\xff\xfe", b"[" * 100_000, b'{"x": 1, "x": 2}'):
        (tmp_path / "e.json").write_bytes(text)
        with pytest.raises(QCompileError) as caught:
            read_encodings(tmp_path / "e.json")
        assert caught.value.code == Code.BAD_ENCODINGS
    with pytest.raises(QCompileError, match="cannot be read"):
        read_encodings(tmp_path / "none.json")
