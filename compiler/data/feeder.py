"""From the raw arrays of one sample to the feeds of one run: names, numbers, types, constants."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from qcompile.compiler.data.batches import Batching, batching
from qcompile.compiler.data.convert import check_finite, to_dtype
from qcompile.compiler.data.dataset import find_label
from qcompile.compiler.data.decoder import complete
from qcompile.compiler.data.layout import channel_axis
from qcompile.compiler.data.options import Constant
from qcompile.compiler.data.preprocess import Preprocess
from qcompile.core.decoder_ends import DecoderEnds, decoder_ends
from qcompile.core.errors import Code, QCompileError

if TYPE_CHECKING:
    from qcompile.core.signature import Signature, TensorSpec


@dataclass(frozen=True)
class Feeder:
    """What is done to every sample of a set, whatever it was read from."""

    signature: "Signature"
    preprocess: Preprocess = field(default_factory=Preprocess)
    constants: Mapping[str, Constant] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = [spec.name for spec in self.signature.inputs]
        unknown = sorted(set(self.constants) - set(known))
        if unknown:
            raise QCompileError(
                Code.BAD_CONFIG,
                f"[data.constants] {unknown[0]!r} is not an input of the model",
                hint=f"its inputs are {', '.join(known)}",
            )
        if self.preprocess.input not in (None, *known):
            raise QCompileError(
                Code.BAD_CONFIG,
                f"[preprocess] input = {self.preprocess.input!r} is not an input of the model",
                hint=f"its inputs are {', '.join(known)}",
            )

    @property
    def batching(self) -> Batching:
        """Where the inputs have their batch dimension."""
        return batching(self.signature)

    @cached_property
    def decoder(self) -> DecoderEnds | None:
        """The ends of a language model, some of which follow from its tokens."""
        return decoder_ends(self.signature)

    def wanted(self) -> list["TensorSpec"]:
        """The inputs that data must give: all that have no constant and cannot be made."""
        passed = {*self.constants, *self.makeable()}
        return [spec for spec in self.signature.inputs if spec.name not in passed]

    def makeable(self) -> list[str]:
        """The inputs that data may give, and that are made where they do not."""
        names = () if self.decoder is None else self.decoder.makeable
        return [name for name in names if name not in self.constants]

    def match(self, names: Iterable[str], where: str) -> dict[str, str]:
        """Which array feeds which input.

        Inputs are found by name. The only input may also be the array called ``x``, or the only
        array that is no label.

        Returns:
            Input name -> array name.

        Raises:
            QCompileError: DATA_NAMES listing what is there and what is needed.
        """
        there = dict.fromkeys(names)
        wanted = [spec.name for spec in self.wanted()]
        further = {name: name for name in self.makeable() if name in there}
        if all(name in there for name in wanted):
            return {name: name for name in wanted} | further
        if len(wanted) == 1:
            label = find_label(there)
            others = [name for name in there if name != label and name not in further]
            if "x" in there or len(others) == 1:
                return {wanted[0]: "x" if "x" in there else others[0]} | further
        missing = [name for name in wanted if name not in there]
        raise QCompileError(
            Code.DATA_NAMES,
            f"{where} has no array for the input {missing[0]!r}, only {', '.join(there) or 'none'}",
            hint="name the arrays like the model's inputs "
            f"({', '.join(wanted)}), or give a value in [data.constants]",
        )

    def feed(
        self, raw: Mapping[str, np.ndarray], where: str, *, pixels: bool = False
    ) -> dict[str, np.ndarray]:
        """Make the feeds of one run.

        Args:
            raw: input name -> values in their own type, batch dimension included.
            where: the sample's source, for messages.
            pixels: whether they were decoded from a picture, so that preprocessing is due.

        Raises:
            QCompileError: DATA_TYPE, DATA_VALUES, or BAD_CONFIG when mean or std do not fit.
        """
        feeds = {}
        for spec in self.signature.inputs:
            if spec.name in raw:
                place = f"{where} (input {spec.name!r})"
                feeds[spec.name] = self._convert(spec, raw[spec.name], place, pixels)
        if self.constants:
            sizes, passed = self._sizes(feeds), self.makeable()
            feeds = {
                spec.name: feeds[spec.name] if spec.name in feeds else self._fill(spec, sizes)
                for spec in self.signature.inputs
                if spec.name in feeds or spec.name not in passed
            }
        return feeds if self.decoder is None else complete(self.decoder, feeds)

    def is_picture(self, spec: "TensorSpec") -> bool:
        """Whether preprocessing is meant for this input (``Preprocess.input``)."""
        if self.preprocess.input is not None:
            return spec.name == self.preprocess.input
        inputs = self.signature.inputs
        if len(inputs) == 1:
            return True
        of_rank_4 = [s.name for s in inputs if s.shape is not None and len(s.shape) == 4]
        return of_rank_4 == [spec.name]

    def is_raw(self, spec: "TensorSpec", dtype: np.dtype[np.generic], where: str) -> bool:
        """Whether an array of this type for this input is still to be preprocessed."""
        return self.is_picture(spec) and self.preprocess.applies_to(dtype, where)

    def _convert(
        self, spec: "TensorSpec", array: np.ndarray, where: str, pixels: bool
    ) -> np.ndarray:
        if pixels or self.is_raw(spec, array.dtype, where):
            axis = channel_axis(spec, array.ndim, self.preprocess.layout)
            array = self.preprocess.numbers(array, axis, self.preprocess.dtype or spec.dtype)
        converted = np.ascontiguousarray(to_dtype(array, spec.dtype, where)).reshape(array.shape)
        check_finite(converted, where)
        return converted

    def _sizes(self, feeds: Mapping[str, np.ndarray]) -> dict[str, int]:
        """What the named dimensions are in this sample."""
        sizes: dict[str, int] = {}
        for spec in self.signature.inputs:
            if spec.shape is not None and spec.name in feeds:
                for dim, size in zip(spec.shape, feeds[spec.name].shape, strict=False):
                    if isinstance(dim, str):
                        sizes.setdefault(dim, size)
        return sizes

    def _fill(self, spec: "TensorSpec", sizes: Mapping[str, int]) -> np.ndarray:
        dims = spec.shape or ()
        shape = [d if isinstance(d, int) else sizes.get(d or "", 1) for d in dims]
        where = f"[data.constants] {spec.name}"
        value = to_dtype(np.asarray(self.constants[spec.name]), spec.dtype, where)
        try:
            return np.array(np.broadcast_to(value, shape))
        except ValueError as error:
            raise QCompileError(
                Code.DATA_SHAPE,
                f"{where} has shape {list(value.shape)}, but the input is {list(shape)}",
            ) from error
