"""Scales a token: what is tried, what is kept, and what low bits take in."""

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from qcompile.compiler.options import Scheme
from qcompile.compiler.progress import Silent
from qcompile.compiler.quantizing import quantize
from qcompile.compiler.scoring import Scorer
from qcompile.compiler.search.tokens import ROTATED, search_tokens
from qcompile.compiler.search.workshop import Job
from qcompile.core import graph as g
from qcompile.core.plan import is_by_token
from qcompile.passes.plan.low_bit_tokens import REASON
from qcompile.passes.prepare.edit import set_constant
from qcompile.passes.prepare.fold_constants import FoldConstants
from qcompile.passes.transform.stream import find_streams
from qcompile.targets.catalog import load_target
from tests.decoders import Shape, canonical, decoder, feeds
from tests.passes.planning import EXECUTOR, Feed

SHAPE = Shape(cache=False, hidden=64, size=32, layers=1)
TARGET = load_target("ort-x86-vnni")
INTEGERS = Scheme(scheme="w8a8-dynamic", tokens=True, granularity="token", effort="balanced")
FEW = Scheme(scheme="w4a4-dynamic", tokens=True, granularity="group:32", effort="balanced")


def outlying() -> ir.Model:
    """A decoder whose norms give two channels 64 times what the others reach."""
    model = canonical(decoder(SHAPE))
    FoldConstants()(model)
    channels = [3, 40]
    for gain in find_streams(model.graph)[0].gains:
        array = np.array(g.constant(gain.node.inputs[gain.slot]))
        array[channels] *= 64
        set_constant(gain.node, gain.slot, array)
        for reader in gain.readers:
            weight = np.array(g.constant(reader.inputs[1]))
            weight[channels] /= 64
            set_constant(reader, 1, weight)
    return model


def samples(count: int = 16) -> list[Feed]:
    rng = np.random.default_rng(0)
    return [feeds(SHAPE, rng.integers(0, 40, (1, 24))) for _ in range(count)]


def job(scheme: Scheme) -> Job:
    target = TARGET.under(scheme.scheme, simulate=True).by_token()
    return Job(outlying(), target, replace(scheme, threads=1), EXECUTOR, samples(), Silent())


def decibels(one: Job, model: ir.Model, plan) -> float:  # type: ignore[no-untyped-def]
    return Scorer(one.model, EXECUTOR, samples(20)[16:], 1).score(plan, model)


def test_smoothing_is_kept_where_it_pays() -> None:
    one = job(INTEGERS)
    found = search_tokens(one)
    plain = search_tokens(replace(one, scheme=replace(one.scheme, effort="fast")))
    assert "smooth" in found.plan.transforms
    assert plain.plan.transforms == {}
    assert plain.trials == ()
    assert is_by_token(found.plan)
    assert decibels(one, found.model, found.plan) > decibels(one, plain.model, plain.plan) + 3
    assert not any(trial.step == ROTATED for trial in found.trials)  # 8 bits do not need it
    assert found.plan.fingerprint == plain.plan.fingerprint == g.fingerprint(one.model)


def test_four_bits_are_rotated() -> None:
    one = job(FEW)
    found = search_tokens(one)
    plain = search_tokens(replace(one, feeds=[]))
    assert any(trial.step == ROTATED for trial in found.trials)
    assert decibels(one, found.model, found.plan) > decibels(one, plain.model, plain.plan) + 6
    assert found.plan.fingerprint == g.fingerprint(one.model)
    modes = {node.op: node for node in found.plan.nodes.values() if node.mode == "weights"}
    assert modes["MatMul"].activations == "int4 token"
    left = [node for node in found.plan.nodes.values() if node.reason == REASON]
    assert sorted(node.op for node in left) == ["Gather", "MatMul"]
    qdq = quantize(found.model, found.plan)
    kinds = {n.outputs[0].dtype for n in qdq.graph if n.op_type == "QuantizeLinear"}
    assert kinds == {ir.DataType.INT4}


def test_the_same_plan_again() -> None:
    first, second = (search_tokens(job(FEW)).plan for _ in range(2))
    assert first.rounded.keys() == second.rounded.keys()
    for name, codes in first.rounded.items():
        assert np.array_equal(codes, second.rounded[name])


@pytest.mark.parametrize("scheme", [INTEGERS, FEW])
def test_without_samples_nothing_is_tried(scheme: Scheme) -> None:
    found = search_tokens(replace(job(scheme), feeds=[]))
    assert found.trials == ()
    assert found.plan.transforms == {}
