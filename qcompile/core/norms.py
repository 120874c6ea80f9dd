"""What training saw of a value: the mean and deviation a batch normalization knew, a channel.

Folding a BatchNormalization loses them from the graph; they are kept beside it, under the value's
name, and serve where there are no samples to measure ranges on. They are no part of the function:
neither the fingerprint nor any file holds them.
"""

import weakref
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

_KEY = "qcompile.norms"


@dataclass(frozen=True, eq=False)
class Norm:
    """Mean and standard deviation of each channel (axis 1) of a value, float64 (channels,)."""

    mean: np.ndarray
    deviation: np.ndarray


def remember_norm(graph: ir.Graph, value: str, norm: Norm) -> None:
    """Keep what is known of a value of the graph."""
    owner, known = graph.meta.get(_KEY, (None, {}))
    if owner is None or owner() is not graph:  # a clone takes over its original's notes
        known = dict(known)
        graph.meta[_KEY] = (weakref.ref(graph), known)
    known[value] = norm


def known_norms(graph: ir.Graph) -> Mapping[str, Norm]:
    """Value name -> what is known of it; of values that are gone as well."""
    _, known = graph.meta.get(_KEY, (None, {}))
    found: Mapping[str, Norm] = known
    return found
