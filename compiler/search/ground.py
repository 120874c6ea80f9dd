"""A graph that plans are laid on, what is known of its values, and what is yet to be asked."""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qcompile.core.statistics.base import StatisticRequest, Statistics


@dataclass(frozen=True)
class Ground:
    """A graph that plans are laid on, and what is known of its values."""

    model: ir.Model
    transforms: dict[str, dict[str, np.ndarray]]
    """What made it of the canonical graph, as ``plan.transforms``."""
    statistics: Statistics


def join(request: StatisticRequest, wanted: StatisticRequest) -> None:
    """Ask for more."""
    for value, of in wanted.items():
        request[value] = {**request.get(value, {}), **of}


def without(request: StatisticRequest, known: Statistics) -> StatisticRequest:
    """What is asked for and not known."""
    missing = {
        value: {name: make for name, make in of.items() if name not in known.get(value, {})}
        for value, of in request.items()
    }
    return {value: of for value, of in missing.items() if of}
