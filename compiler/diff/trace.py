"""Runs two models, and a float one, with their insides exposed, and compares value by value.

1. A quantized value is read as the integers that the file stores and made real by the file's own
   scale, so integer kernels run as they do without being watched. Values that exist only inside an
   integer kernel are not read.
2. An ONNX file is run as ONNX Runtime optimizes it, with exact integer sums away from its target; a
   TFLite file by LiteRT's built-in kernels, since XNNPACK keeps no intermediates.
3. TFLite stores axes in another order and does not say which: it is the one that fits the shape of
   the same value in ONNX, and of several that do, the one in which the numbers lie closest.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from qcompile.compiler import measure
from qcompile.compiler.diff.aligning import MOST_RANK, Aligned, aligned_session
from qcompile.compiler.diff.side import Side, Site
from qcompile.compiler.verify.metrics import output_terms
from qcompile.core.executor import Feeds, Session
from qcompile.core.numerics.affine import dequantize
from qcompile.core.parallel import ordered_map
from qcompile.targets.backends import backend_of
from qcompile.targets.host import runs_here
from qcompile.targets.onnxruntime.executor import OrtExecutor, open_artefact
from qcompile.targets.tflite.runtime import TfliteSession


def is_at_home(side: Side) -> bool:
    """Whether this machine is one that a side was made for; also when nothing says."""
    target = measure.known_target(side.target)
    return target is None or runs_here(target)


def open_side(side: Side) -> Aligned:
    """An aligned side's model, to be fed and read as the float model is."""
    session: Session
    if side.format == "tflite":
        session = backend_of("tflite").open(side.path)
    elif side.has_external_data:
        assert side.imported is not None
        session = OrtExecutor().load(side.imported.model)
    else:
        session = open_artefact(side.path, exact=not is_at_home(side))
    return aligned_session(side, session)


@dataclass
class Traced:
    """A side that gives the values asked for, by the user's names, as reals."""

    side: Side
    names: Sequence[str]
    session: Session
    ends: Aligned
    orders: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Value -> how its axes are permuted to be in ONNX's order."""

    def run(self, feeds: Feeds) -> dict[str, np.ndarray]:
        """Every value once."""
        return {
            name: self.unscaled(name, self._in_order(name, array))
            for name, array in self.stored(feeds).items()
        }

    def stored(self, feeds: Feeds) -> dict[str, np.ndarray]:
        """Every value once, its axes and its channels' scale as the file has them."""
        given = self.ends.feeds(feeds)
        made = dict(zip(self.session.output_names, self.session.run(given), strict=True))
        found = {}
        for name in self.names:
            site = self.side.sites[name]
            array = made[site.tensor] if site.tensor in made else given[site.tensor]
            found[name] = _real(array, site)
        return found

    def unscaled(self, name: str, array: np.ndarray) -> np.ndarray:
        """A value in ONNX's order of axes without the factors of transforms."""
        scaling = self.side.scalings.get(name)
        return array if scaling is None else scaling.undo(array)

    def _in_order(self, name: str, array: np.ndarray) -> np.ndarray:
        order = self.orders.get(name)
        return array if order is None else np.transpose(array, order)


def trace(side: Side, names: Sequence[str]) -> Traced:
    """Open a side with some of its values exposed.

    Raises:
        QCompileError: RUNTIME_REFUSED.
    """
    assert side.facts is not None
    fed = {spec.name for spec in side.facts.inputs}
    tensors = list(dict.fromkeys(side.sites[name].tensor for name in names))
    tensors = [tensor for tensor in tensors if tensor not in fed]
    session: Session
    if side.format == "tflite":
        session = TfliteSession(side.path, "builtin", outputs=tensors)
    elif side.has_external_data:
        assert side.imported is not None
        session = OrtExecutor().load(side.imported.model, tensors)
    else:
        session = open_artefact(side.path, tensors, exact=not is_at_home(side))
    return Traced(side, names, session, aligned_session(side, session))


def _real(array: np.ndarray, site: Site) -> np.ndarray:
    if site.grid is None or np.issubdtype(array.dtype, np.floating):
        return np.asarray(array, np.float32)
    return dequantize(array, site.grid.params.scale, site.grid.params.zero_point)


# --- comparison --------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Compared:
    """Sums over all samples, float64 (values, 4): see ``OutputTerms.sums``."""

    names: tuple[str, ...]
    second: np.ndarray
    """The second against the first."""
    against: tuple[np.ndarray, np.ndarray] | None = None
    """First and second against the reference."""


def common_values(sides: Sequence[Side]) -> list[str]:
    """Values that can be read in all sides, in the first's order."""
    return [name for name in sides[0].sites if all(name in side.sites for side in sides)]


def compare_values(
    sides: Sequence[Side],
    feeds: Sequence[Feeds],
    *,
    threads: int,
) -> Compared:
    """Run all sides on some samples and compare every value they have in common.

    Values whose shapes do not correspond are left out.

    Args:
        sides: the first, the second and, if there is one, the reference.
        feeds: the samples.
        threads: samples in work at a time; no figure depends on it.
    """
    names = common_values(sides)
    traced = [trace(side, names) for side in sides]
    names = _settle_orders(traced, feeds[0])
    for one in traced:
        one.names = names
    pairs = [(0, 1)] if len(sides) == 2 else [(0, 1), (2, 0), (2, 1)]

    def one_sample(feed: Feeds) -> np.ndarray:
        made = [one.run(feed) for one in traced]
        return np.array(
            [[output_terms(made[i][n], made[j][n]).sums for n in names] for i, j in pairs]
        ).reshape(len(pairs), len(names), 4)

    zero = np.zeros((len(pairs), len(names), 4))
    total = sum(ordered_map(one_sample, feeds, threads), zero)
    against = None if len(sides) == 2 else (total[1], total[2])
    return Compared(tuple(names), total[0], against)


def _settle_orders(traced: Sequence[Traced], feed: Feeds) -> list[str]:
    """Find the order of axes of TFLite's values; the names whose shapes correspond."""
    made = [one.stored(feed) for one in traced]
    base = next((i for i, one in enumerate(traced) if one.side.format == "onnx"), 0)
    kept = []
    for name, stored in made[base].items():
        like = traced[base].unscaled(name, stored)
        orders = [
            ()
            if one is traced[base]
            else fitting_order(values[name], like, one.side.format, partial(one.unscaled, name))
            for one, values in zip(traced, made, strict=True)
        ]
        if any(order is None for order in orders):
            continue
        kept.append(name)
        for one, order in zip(traced, orders, strict=True):
            if order:
                one.orders[name] = order
    return kept


def fitting_order(
    array: np.ndarray,
    like: np.ndarray,
    form: str,
    unscaled: Callable[[np.ndarray], np.ndarray] = lambda array: array,
) -> tuple[int, ...] | None:
    """How to permute an array's axes so that it lies like another.

    Args:
        array: as the file has it.
        like: in ONNX's order.
        form: format of the file.
        unscaled: takes the factors of transforms out of a permuted array.

    Returns:
        The permutation; empty for none needed; None when no order of its axes has that shape.
    """
    if form != "tflite" or array.ndim < 3 or array.ndim > MOST_RANK:
        return () if array.shape == like.shape else None
    orders = [
        order
        for order in itertools.permutations(range(array.ndim))
        if tuple(array.shape[axis] for axis in order) == like.shape
    ]
    if not orders:
        return None
    return min(orders, key=lambda order: _distance(unscaled(np.transpose(array, order)), like))


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    with np.errstate(invalid="ignore", over="ignore"):
        found = float(np.square(a.astype(np.float64) - b).sum())
    return found if np.isfinite(found) else np.inf
