"""Looks into HDF5 files of Keras before Keras does: whole, all in one file, and no code in them."""

import json
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final

import h5py

from qcompile.compiler.importers.keras_2 import mend
from qcompile.compiler.importers.keras_archive import (
    FREE_SIZE,
    LARGEST_RATIO,
    WEIGHTS,
    read_config,
)
from qcompile.compiler.importers.keras_config import check_config
from qcompile.core.errors import Code, QCompileError

HDF5_WEIGHTS: Final = WEIGHTS[0]


def prepare_hdf5(path: Path, folder: Path, *, trust: bool) -> Path:
    """Check a model file of Keras 2 or 3, and make it one that Keras 3 loads.

    Args:
        path: as the user named it.
        folder: for a copy, where something has to be changed.
        trust: whether code in it may run.

    Returns:
        The file to load.

    Raises:
        QCompileError: NOT_A_MODEL, MODEL_TRUNCATED, MODEL_INVALID, UNTRUSTED_MODEL.
    """
    with open_hdf5(path, path) as file:
        text = file.attrs.get("model_config")
        if text is None:
            weights = "layer_names" in file.attrs or "_layer_checkpoint_dependencies" in file
            what = "the weights of a Keras model alone" if weights or "layers" in file else "HDF5"
            raise QCompileError(
                Code.NOT_A_MODEL,
                f"{path} holds {what}, no Keras model",
                hint="save the whole model: model.save('model.keras')",
            )
        if not isinstance(text, bytes | str):
            raise QCompileError(Code.MODEL_INVALID, f"{path}: its configuration is no text")
        config = read_config(text)
        check_datasets(file, path.name, path.stat().st_size)
    if not trust:
        check_config(config)
    changed = mend(config)
    if not changed and path.suffix == ".h5":
        return path
    copy = folder / "model.h5"
    shutil.copyfile(path, copy)
    with h5py.File(copy, "r+") as file:
        file.attrs["model_config"] = json.dumps(config)
    return copy


def open_hdf5(file: Path | IO[bytes], path: Path) -> h5py.File:
    """Open a file for reading; ``path`` is what messages call it.

    Raises:
        QCompileError: NOT_A_MODEL, MODEL_TRUNCATED.
    """
    try:
        return h5py.File(file, "r")
    except OSError as error:
        if "truncated" in str(error):
            raise QCompileError(
                Code.MODEL_TRUNCATED,
                f"{path} ends in the middle of the model",
                hint="fetch or save the file again",
            ) from error
        raise QCompileError(Code.NOT_A_MODEL, f"{path} is no HDF5 file: {error}") from error


def check_archived(path: Path) -> None:
    """Check the weights in a .keras archive as ``check_datasets`` does.

    Raises:
        QCompileError: NOT_A_MODEL, MODEL_TRUNCATED, and of ``check_datasets``.
    """
    with zipfile.ZipFile(path) as archive:
        if HDF5_WEIGHTS not in archive.namelist():
            return
        size = archive.getinfo(HDF5_WEIGHTS).file_size
        with archive.open(HDF5_WEIGHTS) as member, open_hdf5(member, path) as file:
            check_datasets(file, HDF5_WEIGHTS, size)


def check_datasets(file: h5py.File, name: str, size: int) -> None:
    """Refuse weights that lie in other files (CVE-2026-1669) or are larger than this one.

    Args:
        file: open.
        name: of it, for messages.
        size: of it, bytes.

    Raises:
        QCompileError: UNTRUSTED_MODEL, MODEL_INVALID, MODEL_TRUNCATED.
    """
    allowed = max(FREE_SIZE, LARGEST_RATIO * size)
    total = 0
    try:
        for label, found in _datasets(file):
            if found.external or found.is_virtual:
                raise QCompileError(
                    Code.UNTRUSTED_MODEL, f"{name} takes {label} from another file", node=label
                )
            total += found.nbytes
    except (KeyError, RuntimeError, OSError) as error:
        raise QCompileError(
            Code.MODEL_TRUNCATED,
            f"{name} is damaged: {error}",
            hint="fetch or save the file again",
        ) from error
    if total > allowed:
        raise QCompileError(
            Code.MODEL_INVALID, f"{name} promises {total} bytes of weights; it cannot hold them"
        )


def _datasets(file: h5py.File) -> Iterator[tuple[str, h5py.Dataset]]:
    """Every dataset behind hard links, each group once."""
    pending: list[h5py.Group] = [file]
    seen: set[Any] = set()
    while pending:
        group = pending.pop()
        if group.id in seen:
            continue
        seen.add(group.id)
        for key in group:
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                raise QCompileError(
                    Code.UNTRUSTED_MODEL,
                    f"its {group.name}/{key} is a link to somewhere else",
                    node=f"{group.name}/{key}",
                )
            found = group[key]
            if isinstance(found, h5py.Group):
                pending.append(found)
            elif isinstance(found, h5py.Dataset):
                yield found.name, found
