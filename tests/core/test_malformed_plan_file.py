"""A plan file that somebody or something damaged: read, or refused with the name of the entry."""

import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompile.core.errors import Code, QCompileError
from qcompile.core.plan_file import load_plan, to_arrays, to_json
from tests.core.plans import assert_equal, small


def outcome(text: bytes, arrays: bytes) -> Code | None:
    try:
        load_plan(text, arrays, "p")
    except QCompileError as error:
        return error.code
    return None


def refused(text: bytes, arrays: bytes | None = None) -> str:
    with pytest.raises(QCompileError) as caught:
        load_plan(text, arrays, "some.plan.json")
    assert caught.value.code is Code.BAD_PLAN
    assert caught.value.message.startswith("some.plan.json: ")
    return caught.value.message.removeprefix("some.plan.json: ")


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"a": 1, "a": 2}', b"\x00" * 10],
    ids=["empty", "open", "utf-16", "deep", "twice", "zeros"],
)
def test_what_is_not_json(text):
    assert refused(text).startswith("it is not JSON")


@pytest.mark.parametrize("document", [[], 3, None, {}, {"schema_version": 2}, "text"])
def test_another_schema(document):
    assert refused(json.dumps(document).encode()) == "schema_version must be 1"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("fingerprint", 3, "fingerprint must be given, as text"),
        ("target", None, "target must be given, as text"),
        ("scheme", [], "scheme must be given, as text"),
        ("ends", "int5", "ends must be one of float, uint8, int8, int16, not int5"),
        ("from_noise", "yes", "from_noise must be of type bool, not 'yes'"),
        ("nodes", [], "nodes must be given, as a table"),
        ("values", "x", "values must be given, as a table"),
    ],
)
def test_the_head_of_a_plan(key, value, message):
    document = json.loads(to_json(small()))
    document[key] = value
    assert refused(json.dumps(document).encode()) == message
    if key != "from_noise":
        del document[key]
        assert refused(json.dumps(document).encode()).startswith(key)


RECORDS = [
    ("nodes", "conv", "mode", "int", "node conv: mode must be one of integer, dynamic, table"),
    ("nodes", "conv", "mode", ["float"], "node conv: mode must be one of"),
    ("nodes", "conv", "op", 3, "node conv: op must be of type str, not 3"),
    ("nodes", "conv", "op", None, "node conv: op must be of type str"),
    ("nodes", "relu", "into", None, "node relu: into must be of type str"),
    ("nodes", "relu", "into", "gone", "node relu: there is no node gone to be absorbed into"),
    ("nodes", "conv", "reason", {}, "node conv: reason must be of type str"),
    ("values", "x", "role", "input", "value x: role must be one of activation, weight, bias"),
    ("values", "x", "dtype", "uint9", "value x: dtype must be one of uint2, int2"),
    ("values", "x", "granularity", "row", "value x: granularity must be one of tensor, channel"),
    ("values", "x", "axis", 1, "value x: an axis needs a granularity of channel"),
    ("values", "w", "axis", None, "value w: axis must be of type int"),
    ("values", "w", "axis", True, "value w: axis must be of type int"),
    ("values", "w", "axis", -1, "value w: a granularity of channel needs an axis"),
    ("values", "x", "symmetric", 1, "value x: symmetric must be of type bool"),
    ("values", "x", "relation", "shared", "value x: a relation names shared, fixed, widened"),
    ("values", "x", "relation", {"shared": 1}, "value x: a relation names shared"),
    ("values", "x", "relation", {"shared": "gone"}, "value x: there is no value gone"),
    ("values", "x", "relation", {"shared": "y"}, "value x: y takes after another value itself"),
    ("values", "x", "relation", {"shared": "x"}, "value x: x takes after another value itself"),
    ("values", "b", "relation", {"activation": "x"}, "value b: a relation names shared"),
    ("values", "b", "relation", {"activation": "x", "weight": "v"}, "value b: there is no value v"),
    ("values", "x", "scale", 0.0, "value x: a scale must be finite and at least 2.2e-19"),
    ("values", "x", "scale", -1.0, "value x: a scale must be"),
    ("values", "x", "scale", 1e-30, "value x: a scale must be"),
    ("values", "x", "scale", 1e300, "value x: a scale must be"),
    ("values", "x", "scale", float("nan"), "value x: a scale must be"),
    ("values", "x", "scale", float("inf"), "value x: a scale must be"),
    ("values", "x", "scale", "1.0", "value x: with a granularity of tensor its scale is a number"),
    ("values", "x", "scale", "much", "value x: could not convert"),
    ("values", "x", "scale", [1.0], "value x: with a granularity of tensor its scale is a number"),
    ("values", "x", "scale", None, "value x: a scale must be"),
    ("values", "x", "scale", {}, "value x: "),
    ("values", "w", "scale", 1.0, "value w: with a granularity of channel its scale is a list"),
    ("values", "w", "scale", [[1.0], [2.0]], "value w: with a granularity of channel"),
    ("values", "w", "scale", [1.0, [2.0]], "value w: "),
    ("values", "x", "zero_point", 256, "value x: a zero point of uint8 is a whole number from 0"),
    ("values", "x", "zero_point", -1, "value x: a zero point of uint8"),
    ("values", "x", "zero_point", 1.5, "value x: a zero point of uint8"),
    ("values", "x", "zero_point", True, "value x: a zero point of uint8"),
    ("values", "x", "zero_point", "3", "value x: "),
    ("values", "x", "zero_point", 10**30, "value x: a zero point of uint8"),
    ("values", "x", "zero_point", [3], "value x: 1 zero points for 1 scales"),
    ("values", "w", "zero_point", [0, 0, 0], "value w: 3 zero points for 2 scales"),
    ("values", "x", "rule", 3, "value x: rule must be of type str"),
]


@pytest.mark.parametrize(("table", "name", "key", "value", "message"), RECORDS)
def test_a_malformed_entry_is_named(table, name, key, value, message):
    document = json.loads(to_json(small()))
    document[table][name][key] = value
    assert refused(json.dumps(document).encode()).startswith(message)


@pytest.mark.parametrize(
    ("table", "name", "key"),
    [
        ("nodes", "conv", "mode"),
        ("nodes", "conv", "op"),
        ("nodes", "relu", "into"),
        ("values", "x", "role"),
        ("values", "x", "dtype"),
        ("values", "x", "zero_point"),
    ],
)
def test_a_missing_key_is_named(table, name, key):
    document = json.loads(to_json(small()))
    del document[table][name][key]
    what = f"{table[:-1]} {name}: key '{key}' is missing"
    assert refused(json.dumps(document).encode()) == what


@pytest.mark.parametrize("record", [None, 3, "text", [], [["mode", "float"]]])
@pytest.mark.parametrize(("table", "name"), [("nodes", "conv"), ("values", "x")])
def test_an_entry_that_is_no_table(table, name, record):
    document = json.loads(to_json(small()))
    document[table][name] = record
    assert refused(json.dumps(document).encode()).startswith(f"{table[:-1]} {name}: ")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=150)
@given(JSON, st.data())
def test_anything_in_any_place_is_read_or_refused(thing, data):
    document = json.loads(to_json(small()))
    table, path = document, []
    while isinstance(table, dict) and table:
        path.append(data.draw(st.sampled_from(sorted(table))))
        if data.draw(st.booleans()):
            break
        table = table[path[-1]]
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = thing
    assert outcome(json.dumps(document).encode(), to_arrays(small())) in {None, Code.BAD_PLAN}


# --- malformed arrays ------------------------------------------------------------------------


def npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


WHOLE = to_arrays(small())


@pytest.mark.parametrize(
    "arrays",
    [
        b"",
        b"nothing of the kind",
        WHOLE[: len(WHOLE) // 2],
        npy(np.zeros(3)),
        npz(other=np.zeros(3)),
        npz(digests=np.zeros(3)),
        npz(digests=np.frombuffer(b"[1, 2]", np.uint8)),
        npz(digests=np.asarray(["a"], object)),
    ],
    ids=["empty", "text", "half", "npy", "no digests", "zeros", "list", "pickle"],
)
def test_arrays_that_cannot_be_read(arrays):
    assert refused(to_json(small()), arrays).startswith("its arrays cannot be read")


@settings(max_examples=100)
@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255))
def test_a_changed_byte_is_harmless_or_refused(place, flip):
    damaged = bytearray(WHOLE)
    damaged[place] ^= flip
    code = outcome(to_json(small()), bytes(damaged))
    assert code in {None, Code.BAD_PLAN}
    if code is None:
        assert_equal(load_plan(to_json(small()), bytes(damaged), "p")[0], small())


@pytest.mark.parametrize(
    ("table", "name", "array", "message"),
    [
        ("corrections", "x", np.ones(1, np.float32), "a correction of x, which is no bias"),
        ("corrections", "gone", np.ones(1, np.float32), "a correction of gone, which is no bias"),
        (
            "corrections",
            "b",
            np.ones(3, np.float32),
            "a correction of b, which has 2 channels, not",
        ),
        ("corrections", "b", np.ones(2), "a correction of b, which is not one finite float32"),
        ("corrections", "b", np.ones((2, 1), np.float32), "a correction of b, which is not one"),
        (
            "corrections",
            "b",
            np.asarray([1, np.nan], np.float32),
            "a correction of b, which is not",
        ),
        ("rounded", "b", np.ones(2, np.int8), "chosen integers of b, which is no weight"),
        ("rounded", "w", np.ones(2, np.float32), "chosen integers of w, which are not of int8"),
        ("rounded", "w", np.full(2, 200, np.int16), "chosen integers of w, which are not of int8"),
    ],
)
def test_arrays_that_do_not_fit_are_named(table, name, array, message):
    plan = small()
    getattr(plan, table)[name] = array
    assert refused(to_json(plan), to_arrays(plan)).startswith(f"the arrays hold {message}")
