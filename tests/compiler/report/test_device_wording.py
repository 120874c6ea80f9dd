"""What is said of devices, and of the place where their results part."""

from dataclasses import replace

from qcompile.compiler.report.device_wording import (
    SHOWN,
    across_remarks,
    across_tables,
    device_facts,
    device_tables,
)
from qcompile.compiler.report.devices import (
    Across,
    AcrossDevice,
    DeviceFacts,
    DeviceTimes,
    Found,
    Gap,
)
from qcompile.compiler.report.latency import Instructions, Latency, Ratio, Timing
from qcompile.compiler.report.model import Measured, OnDevice

LOCAL = DeviceFacts(
    spec="local",
    machine="x86_64",
    system="Linux",
    cpu="",
    cores=1,
    features=("avx2",),
    runtimes=(("onnxruntime", "1.32.0"),),
)
QEMU = replace(LOCAL, spec="qemu:cortex-a53", machine="aarch64", features=(), emulated=True)
COUNTED = Instructions(label="ARM64 instructions (emulated)", floats=100, integers=40)
TIMED = Latency(
    timings=(
        Timing(name="float", median_ms=2.0, p90_ms=2.0, runs=9),
        Timing(name="integer", median_ms=1.0, p90_ms=1.0, runs=9),
    ),
    ratios=(Ratio(name="integer", value=0.5, low=0.5, high=0.5),),
    threads=1,
)
EQUAL = Gap(
    value="a", node="conv", op="Conv", verdict="equal", largest=0, share=0.0, allowed=0, own=0
)
PARTS = replace(EQUAL, value="b", verdict="parts", largest=126, share=0.5, own=120)
FOLLOWS = replace(EQUAL, value="c", verdict="follows", largest=9, share=0.1)
MAY = replace(EQUAL, value="d", op="Resize", verdict="allowed", largest=1, own=1, allowed=1)
REALS = replace(MAY, value="e", largest=3e-7, own=3e-7, allowed=1e-6, steps=False)


def across(*layers: Gap, **more: object) -> Across:
    given: dict[str, object] = {"spec": "local", "outputs": (layers[-1],), "layers": layers}
    device = AcrossDevice(**{**given, **more})  # type: ignore[arg-type]
    return Across(reference="our integer reference", rule="numpy", samples=2, devices=(device,))


def said(found: Across) -> list[str]:
    return [f"{remark.tone}: {remark.text}" for remark in across_remarks(found)]


def test_what_a_device_is() -> None:
    devices = (OnDevice(device=LOCAL), OnDevice(device=QEMU))
    measured = Measured(instructions=COUNTED)
    assert device_facts(devices, measured) == [
        ("device", "local: x86_64, 1 core, avx2, onnxruntime 1.32.0"),
        ("", "qemu:cortex-a53: aarch64, 1 core, onnxruntime 1.32.0, emulated"),
        ("instructions", "0.400x of float: 100 -> 40 ARM64 instructions (emulated)"),
    ]
    assert device_facts((), Measured()) == []


def test_why_instructions_were_not_counted() -> None:
    times = DeviceTimes(spec="qemu:max", no_instructions="no plugin")
    facts = device_facts((OnDevice(device=QEMU),), Measured(devices=(times,)))
    assert facts[-1] == ("instructions", "no plugin")


def test_devices_beside_each_other_show_what_any_has() -> None:
    measured = Measured(
        devices=(
            DeviceTimes(spec="local", latency=TIMED),
            DeviceTimes(spec="qemu:cortex-a53", instructions=COUNTED),
        )
    )
    (table,) = device_tables((OnDevice(device=LOCAL), OnDevice(device=QEMU)), measured)
    assert table.header == ("device", "median", "of float", "instructions")
    assert table.rows == (
        ("local", "1.00 ms", "0.50x", "-"),
        ("qemu:cortex-a53", "-", "-", "0.400x"),
    )
    assert device_tables((OnDevice(device=LOCAL),), measured) == []


def test_equal_is_good() -> None:
    found = across(EQUAL)
    assert said(found) == ["good: local: bit-equal to our integer reference"]
    (outputs,) = across_tables(found)
    assert outputs.title == "Outputs against our integer reference (numpy), 2 samples"
    assert outputs.rows == (("local", "a", "0 LSB", "0.0 %", "equal"),)


def test_where_and_by_how_much_it_parts() -> None:
    found = across(EQUAL, PARTS, FOLLOWS)
    assert said(found) == [
        "bad: local: parts from our integer reference at Conv conv (value b), by 126 LSB where "
        "0 LSB is allowed"
    ]
    layers = across_tables(found)[1]
    assert layers.title == "local: 2 of 3 values differ"
    assert [row[0] for row in layers.rows] == ["b", "c"]
    assert layers.rows[0][2:] == ("126 LSB", "120 LSB", "0 LSB", "50.0 %", "parts")


def test_what_the_facts_allow_is_good() -> None:
    text = "good: local: within what the facts allow of our integer reference, first at Resize conv"
    assert said(across(EQUAL, MAY, FOLLOWS)) == [f"{text} (value d)"]
    assert across_tables(across(REALS))[1].rows[0][2:5] == ("3.0e-07", "3.0e-07", "1.0e-06")


def test_an_inside_that_was_not_seen() -> None:
    found = across(FOLLOWS, layers=(), no_layers="it cannot be read")
    assert said(found) == [
        "info: local: it cannot be read",
        "bad: local: outputs part from our integer reference",
    ]


def test_what_bisection_found() -> None:
    one = Found(value="b", node="conv", op="Conv", largest=126, steps=True, runs=6, confirmed=True)
    text = "info: local: the first operator that parts is Conv conv (value b), by 126 LSB"
    assert said(across(PARTS, found=one))[0] == (
        f"{text} on equal inputs (6 runs of shorter artefacts)"
    )
    unsure = replace(one, confirmed=False)
    assert "did not confirm" in said(across(PARTS, found=unsure))[0]


def test_a_long_table_says_that_it_is_not_all() -> None:
    many = tuple(replace(FOLLOWS, value=f"v{i}") for i in range(SHOWN + 3))
    table = across_tables(across(PARTS, *many))[1]
    assert len(table.rows) == SHOWN
    assert f"{SHOWN + 4} of {SHOWN + 4} values differ, the first {SHOWN}" in table.title
