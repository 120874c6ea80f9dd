"""Random networks through the passes in random order: the outputs stay, the changes end."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompile.compiler.runner import find_fault
from qcompile.core.graph import fingerprint
from qcompile.passes.prepare.cancel_transposes import CancelTransposes
from qcompile.passes.prepare.fold_affine import FoldAffine
from qcompile.passes.prepare.fold_batch_norm import FoldBatchNorm
from qcompile.passes.prepare.fold_constants import FoldConstants
from qcompile.passes.prepare.fold_pad import FoldPad
from qcompile.passes.prepare.global_average_pool import ReduceMeanToGlobalAveragePool
from qcompile.passes.prepare.merge_duplicates import MergeDuplicates
from qcompile.passes.prepare.recognize_hard_swish import RecognizeHardSwish
from qcompile.passes.prepare.recognize_silu import RecognizeSilu
from qcompile.passes.prepare.remove_no_ops import RemoveNoOps
from qcompile.passes.prepare.remove_unused import RemoveUnused
from qcompile.passes.prepare.simplify_clip import SimplifyClip
from qcompile.passes.prepare.split_shared import SplitShared
from qcompile.passes.prepare.sub_to_add import SubToAdd
from tests.passes.prepare.checking import batch_norm, parse, rand, run

PASSES = (
    CancelTransposes(), FoldAffine(), FoldBatchNorm(), FoldConstants(), FoldPad(),
    ReduceMeanToGlobalAveragePool(), MergeDuplicates(), RecognizeHardSwish(), RecognizeSilu(),
    RemoveNoOps(), RemoveUnused(), SimplifyClip(), SplitShared(), SubToAdd(),
)  # fmt: skip

ROUNDS = 6
"""In the worst order each pass makes work for the one before it; no network needed more than 4."""

CONSTANTS = {
    "w3": rand(4, 4, 3, 3) / 6, "w1": rand(4, 4, 1, 1, seed=1) / 2,
    "wd": rand(4, 1, 3, 3, seed=2) / 3,
    "c0": rand(4, seed=3), "k": rand(4, 1, 1, seed=4) + 2, "j": rand(1, 4, 1, 1, seed=5),
    "zero": np.float32(0), "three": np.float32(3), "six": np.float32(6), "half": np.float32(0.5),
    "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]), "axes": np.array([2, 3]), **batch_norm(4),
}  # fmt: skip

LAYERS = (
    "{y} = Conv<pads = [1, 1, 1, 1]>({x}, w3, c0)",
    "{y} = Conv<pads = [1, 1, 1, 1]>({x}, w3)",
    "{y} = Conv({x}, w1, c0)",
    "{y} = ConvTranspose<pads = [1, 1, 1, 1]>({x}, w3, c0)",
    "{y}p = Pad({x}, pads) {y} = Conv<group = 4>({y}p, wd)",
    "{y}p = Pad({x}, pads) {y} = AveragePool<kernel_shape = [3, 3]>({y}p)",
    "{y}p = Pad({x}, pads) {y} = MaxPool<kernel_shape = [3, 3]>({y}p)",
    "{y} = BatchNormalization({x}, g, b, m, v)",
    "{y} = Mul({x}, k)",
    "{y} = Div({x}, k)",
    "{y} = Add(j, {x})",
    "{y} = Sub({x}, j)",
    "{y} = Sub(j, {x})",
    "{y} = Relu({x})",
    "{y} = Clip({x}, zero, six)",
    "{y} = Max({x}, zero)",
    "{y}s = Sigmoid({x}) {y} = Mul({y}s, {x})",
    "{y}a = Add({x}, three) {y}c = Clip({y}a, zero, six) {y}m = Mul({x}, {y}c) "
    "{y} = Div({y}m, six)",
    "{y} = Transpose<perm = [0, 2, 3, 1]>({x})\n{y}t = Relu({y})\n"
    "{y}u = Transpose<perm = [0, 3, 1, 2]>({y}t)\n{y}v = Identity({y}u)",
    "{y}1 = Neg({x}) {y}2 = Neg({x}) {y} = Add({y}1, {y}2)",
    "{y}a = ReduceMean({x}, axes) {y} = Mul({x}, {y}a)",
)
"""What a network is made of; each keeps the shape (N, 4, 6, 6)."""


def network(choices: list[tuple[int, int]]) -> tuple[str, list[str]]:
    """The text of a network: layer ``i`` reads the result ``back`` layers before it."""
    results, lines = ["x"], []
    for n, (kind, back) in enumerate(choices):
        name = f"v{n}"
        source = results[-1 - back % min(2, len(results))]
        lines.append(LAYERS[kind].format(x=source, y=name))
        results.append(f"{name}v" if "Identity" in LAYERS[kind] else name)
    return "\n".join(lines), results[1:]


@settings(deadline=None, max_examples=60)
@given(
    choices=st.lists(
        st.tuples(st.integers(0, len(LAYERS) - 1), st.sampled_from([0, 0, 0, 1])),
        min_size=2,
        max_size=9,
    ),
    order=st.permutations(PASSES),
    middle=st.booleans(),
)
def test_random_networks(choices, order, middle):
    text, results = network(choices)
    # An intermediate result may be a graph output too: it must keep its name and value.
    out = [results[-1]] + ([results[len(results) // 2]] if middle else [])
    ends = ", ".join(f"float[N, 4, 6, 6] {name}" for name in dict.fromkeys(out))
    used = {k: v for k, v in CONSTANTS.items() if k in text.replace("(", " ").replace(")", " ")}
    model = parse(f"g (float[N, 4, 6, 6] x) => ({ends}) {{ {text} }}", used)
    before = run(model)
    for _ in range(ROUNDS):
        changes = [step(model).modified for step in order]
        assert find_fault(model) is None
        if not any(changes):
            break
    once = fingerprint(model)
    assert not any(step(model).modified for step in order)
    assert fingerprint(model) == once
    for a, b in zip(before, run(model), strict=True):
        assert np.abs(a.astype(np.float64) - b).max() <= 1e-5 * np.abs(a).max()
