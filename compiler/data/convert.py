"""Turns an array into the element type of a model's input, or says why that would change it.

Floats become any float type; integers and booleans become floats, and integers that hold every
value. A float is never rounded to an integer, and an integer never wraps.
"""

import numpy as np

from qcompile.core.errors import Code, QCompileError


def to_dtype(array: np.ndarray, dtype: str, where: str) -> np.ndarray:
    """The same values in another element type.

    Args:
        array: numbers or booleans.
        dtype: numpy's name of the wanted type.
        where: file and input, for messages.

    Raises:
        QCompileError: DATA_TYPE when values would change or are no numbers.
    """
    wanted = np.dtype(dtype)
    if array.dtype == wanted:
        return array
    check_type(array.dtype, dtype, where)
    if wanted.kind in "iub" and not np.can_cast(array.dtype, wanted) and array.size:
        low, high = (0, 1) if wanted.kind == "b" else _limits(wanted)
        smallest, largest = int(array.min()), int(array.max())
        if smallest < low or largest > high:
            raise QCompileError(
                Code.DATA_TYPE,
                f"{where} holds {smallest}..{largest}, which does not fit the model's {dtype}",
            )
    return array.astype(wanted)


def check_type(given: np.dtype[np.generic], dtype: str, where: str) -> None:
    """Refuse a type of which no value can be converted (see ``to_dtype``)."""
    wanted = np.dtype(dtype)
    if given.kind not in "fiub":
        raise QCompileError(Code.DATA_TYPE, f"{where} is {given}, which is not a type of numbers")
    if wanted.kind not in "fiub":
        raise QCompileError(
            Code.DATA_TYPE, f"{where}: the model's input is {dtype}, which arrays cannot feed"
        )
    if given.kind == "f" and wanted.kind != "f":
        raise QCompileError(
            Code.DATA_TYPE,
            f"{where} is {given} but the model's input is {dtype}",
            hint=f"store the array as {dtype}",
        )


def check_finite(array: np.ndarray, where: str) -> None:
    """Refuse NaN and infinities.

    Raises:
        QCompileError: DATA_VALUES.
    """
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return
    nan, total = int(np.isnan(array).sum()), int((~np.isfinite(array)).sum())
    kinds = (
        f"{nan} NaN and {total - nan} infinite"
        if nan and total > nan
        else (f"{nan} NaN" if nan else f"{total} infinite")
    )
    raise QCompileError(Code.DATA_VALUES, f"{where} holds {kinds} of {array.size} values")


def _limits(dtype: np.dtype[np.generic]) -> tuple[int, int]:
    info = np.iinfo(dtype.name)
    return int(info.min), int(info.max)
