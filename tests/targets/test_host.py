"""Which target fits which machine."""

import pytest

from qcompile.targets.catalog import target_names
from qcompile.targets.host import best_target, features, host_target, normalize

HASWELL = ["fpu", "sse4_2", "fma", "avx", "avx2", "bmi2"]
SKYLAKE_X = [*HASWELL, "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd"]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], set()),
        (["sse4_2", "avx"], set()),
        (HASWELL, {"avx2"}),
        (SKYLAKE_X, {"avx2"}),
        ([*SKYLAKE_X, "avx512_vnni"], {"avx2", "vnni"}),
        ([*HASWELL, "avx_vnni"], {"avx2", "vnni"}),
        ([*HASWELL, "avx512_vnni"], {"avx2"}),  # without the rest of AVX-512 it is not used
        (
            ["AVX2", "AVX512F", "AVX512BW", "AVX512DQ", "AVX512VL", "AVX512VNNI"],
            {"avx2", "vnni"},
        ),
        (["fp", "asimd", "asimddp", "i8mm"], {"dotprod", "i8mm"}),
    ],
    ids=["none", "old", "haswell", "skylake-x", "ice lake", "alder lake", "masked", "macOS", "arm"],
)
def test_vnni_is_what_onnx_runtime_takes_for_it(flags: list[str], expected: set[str]) -> None:
    assert normalize(flags) == expected


@pytest.mark.parametrize(
    ("machine", "has", "target"),
    [
        ("x86_64", {"avx2", "vnni"}, "ort-x86-vnni"),
        ("AMD64", {"avx2", "vnni"}, "ort-x86-vnni"),
        ("x86_64", {"avx2"}, "ort-x86-avx2"),
        ("x86_64", set(), "ort-x86-avx2"),
        ("aarch64", set(), "ort-arm64"),
        ("arm64", set(), "ort-arm64"),
        ("riscv64", set(), "ort-x86-avx2"),
    ],
)
def test_the_best_target_of_a_machine(machine: str, has: set[str], target: str) -> None:
    assert best_target(machine, frozenset(has)) == target


def test_this_machine_has_a_target() -> None:
    assert host_target() in target_names()
    assert features() <= {"avx2", "vnni", "dotprod", "i8mm"}
