"""Finds out what form the user's data have and opens them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from qcompile.compiler.data.arrays import ArrayDataset, Source
from qcompile.compiler.data.batches import Grouped
from qcompile.compiler.data.callables import (
    ItemDataset,
    is_callable_spec,
    load_callable,
    open_callable,
    open_values,
)
from qcompile.compiler.data.dataset import Dataset, evenly
from qcompile.compiler.data.feeder import Feeder
from qcompile.compiler.data.files import Held, LazyArray, Scratch, open_npy, open_npz
from qcompile.compiler.data.labels import Labelled, label_by_pattern, label_by_table, read_labels
from qcompile.compiler.data.listing import (
    ARRAYS,
    PICTURES,
    Listed,
    Listing,
    list_file,
    list_folder,
    select,
)
from qcompile.compiler.data.options import DataOptions, DataSpec
from qcompile.compiler.data.pictures import PictureDataset
from qcompile.compiler.data.preprocess import Preprocess
from qcompile.compiler.data.text import SUFFIX, list_texts, takes_text, text_sources
from qcompile.core.errors import Code, QCompileError

if TYPE_CHECKING:
    from qcompile.core.signature import Signature

WAYS = (
    "give a folder of pictures, .npy or .npz, one .npz or .npy, a .txt that lists files, "
    "texts with --tokenizer, or module:function"
)


def open_data(
    spec: DataSpec,
    signature: "Signature",
    preprocess: Preprocess | None = None,
    labels: Path | None = None,
    *,
    options: DataOptions | None = None,
) -> Dataset:
    """Open a set of samples.

    Args:
        spec: a folder of pictures, of .npz, or of .npy (or of one folder of .npy an input); a .npz
            or .npy; a .txt that lists pictures or arrays, or with a tokenizer a .txt, or a folder
            of them, that is text; ``module:function``. In Python also the
            function itself, an array, a dict of arrays by input name, or a list of such or of
            paths of pictures. ``batches.py`` says how an array is split into samples.
        signature: the ends of the model.
        preprocess: see ``Preprocess``; None leaves pixels as 0..255 and arrays as they are.
        labels: see ``labels.read_labels``; wins over every other source of labels.
        options: everything else.

    Returns:
        A set whose samples can be fed as they are. Shapes and types of arrays in files are checked
        by their headers now; pictures, and values, when a sample is read.

    Raises:
        QCompileError: NO_DATA, DATA_NOT_FOUND, DATA_EMPTY, DATA_UNREADABLE, DATA_SHAPE, DATA_TYPE,
            DATA_NAMES, BAD_LABELS or BAD_CONFIG.
    """
    options = options if options is not None else DataOptions()
    if labels is not None:
        options = replace(options, labels=labels)
    if options.limit is not None and options.limit < 1:
        raise QCompileError(Code.BAD_CONFIG, f"limit must be at least 1, got {options.limit}")
    feeder = Feeder(signature, preprocess or Preprocess(), options.constants)
    opened = _open(spec, feeder, options)
    dataset = evenly(_with_label_array(opened, options), options.limit)
    size = feeder.batching.size or 1
    if size == 1 or opened.is_batched:
        return dataset
    return Grouped(dataset, size, feeder.batching.axes)


_Opened = ArrayDataset | ItemDataset | PictureDataset


def _open(spec: DataSpec, feeder: Feeder, options: DataOptions) -> _Opened:
    if isinstance(spec, str | Path):
        return _open_text(spec, feeder, options)
    if callable(spec):
        return open_callable(spec, getattr(spec, "__name__", "data"), feeder, options.limit)
    if isinstance(spec, list | tuple) and spec and all(isinstance(s, str | Path) for s in spec):
        files = tuple(Listed(options.folder / s, Path(s).as_posix()) for s in spec)
        missing = next((file.path for file in files if not file.path.is_file()), None)
        if missing is not None:
            raise QCompileError(Code.DATA_NOT_FOUND, f"there is no file {missing}")
        return _open_listing(Listing("data", files), feeder, options)
    return open_values(spec, "data", feeder, options.limit)


def _open_text(spec: str | Path, feeder: Feeder, options: DataOptions) -> _Opened:
    path = options.folder / spec
    if path.exists():
        return _open_path(path, feeder, options)
    if isinstance(spec, str) and is_callable_spec(spec):
        function = load_callable(spec, options.folder)
        return open_callable(function, spec, feeder, options.limit)
    raise QCompileError(Code.DATA_NOT_FOUND, f"there is no data at {path}", hint=WAYS)


def _open_path(path: Path, feeder: Feeder, options: DataOptions) -> _Opened:
    suffix = path.suffix.lower()
    texts = _texts(path, feeder, options)
    if texts is not None and options.tokenizer is not None:
        sources = text_sources(texts, feeder, options.tokenizer, options.tokens)
        return ArrayDataset(texts.name, sources, feeder)
    if path.is_dir():
        folders = [path / spec.name for spec in feeder.wanted()]
        if all(folder.is_dir() for folder in folders):
            folders += [path / name for name in feeder.makeable() if (path / name).is_dir()]
            sources = _per_input_sources(path, folders, options)
            return ArrayDataset(path.resolve().name, sources, feeder)
        return _open_listing(list_folder(path), feeder, options)
    if suffix == SUFFIX:
        return _open_listing(_listed(path, feeder, options), feeder, options)
    if suffix in PICTURES:
        listing = Listing(path.parent.resolve().name, (Listed(path, path.name),))
        return _open_listing(listing, feeder, options)
    if suffix in ARRAYS:
        source = Source(path.name, _arrays(path, feeder, Scratch()))
        return ArrayDataset(path.name, [source], feeder)
    raise QCompileError(Code.DATA_UNREADABLE, f"{path} is no form of data that is known", hint=WAYS)


def _texts(path: Path, feeder: Feeder, options: DataOptions) -> Listing | None:
    """The files that are text: there are some where there is a tokenizer."""
    if options.tokenizer is None or not takes_text(feeder.signature):
        return None
    if path.is_dir():
        return list_texts(path)
    single = Listing(path.name, (Listed(path, path.name),))
    return single if path.suffix.lower() == SUFFIX else None


def _listed(path: Path, feeder: Feeder, options: DataOptions) -> Listing:
    """What a .txt lists; where a model takes tokens it may be a text itself."""
    try:
        return list_file(path, options.root)
    except QCompileError as error:
        if not takes_text(feeder.signature):
            raise
        hint = "if it is a text, give --tokenizer (or tokenizer = ... under [data])"
        raise QCompileError(error.code, error.message, hint=hint) from error


def _open_listing(listing: Listing, feeder: Feeder, options: DataOptions) -> _Opened:
    listing = _label_files(select(listing, options.include, options.exclude), options)
    if listing.suffixes <= PICTURES:
        return PictureDataset(listing, feeder)
    if not listing.suffixes <= ARRAYS:
        strange = sorted(listing.suffixes - ARRAYS - PICTURES)
        what = f"files {strange[0]!r}" if strange else "both pictures and arrays"
        raise QCompileError(
            Code.DATA_UNREADABLE,
            f"{listing.name} holds {what}",
            hint="take one kind with include or exclude in [data]",
        )
    scratch = Scratch()
    sources = [
        Source(
            f"{listing.name}/{file.name}",
            _arrays(file.path, feeder, scratch),
            None if file.label is None else Held(np.array(file.label)),
        )
        for file in listing.files
    ]
    return ArrayDataset(listing.name, sources, feeder)


def _label_files(listing: Listing, options: DataOptions) -> Listing:
    if options.labels is not None:
        labels = read_labels(options.labels)
        if isinstance(labels, dict):
            return label_by_table(listing, labels, str(options.labels))
        return listing
    if options.label_pattern is not None:
        return label_by_pattern(listing, options.label_pattern)
    return listing


def _with_label_array(dataset: _Opened, options: DataOptions) -> Dataset:
    if options.labels is None:
        return dataset
    labels = read_labels(options.labels)
    if not isinstance(labels, dict):
        return Labelled(dataset, labels, str(options.labels))
    if not dataset.has_labels:
        raise QCompileError(
            Code.BAD_LABELS,
            f"{options.labels} names files, but {dataset.name} is not a folder of files",
            hint="give one label a line",
        )
    return dataset


def _arrays(path: Path, feeder: Feeder, scratch: Scratch) -> dict[str, LazyArray]:
    if path.suffix.lower() == ".npz":
        return open_npz(path, scratch)
    wanted = feeder.wanted()
    if len(wanted) != 1:
        names = ", ".join(spec.name for spec in wanted)
        raise QCompileError(
            Code.DATA_NAMES,
            f"{path} is one array, but the model has {len(wanted)} inputs: {names}",
            hint="use .npz files, or one folder of .npy for each input",
        )
    return {wanted[0].name: open_npy(path)}


def _per_input_sources(root: Path, folders: Sequence[Path], options: DataOptions) -> list[Source]:
    """One source for each file name, which must be in every input's folder."""
    listings = [select(list_folder(folder), options.include, options.exclude) for folder in folders]
    tables = [{file.name: file.path for file in listing.files} for listing in listings]
    for folder, table in zip(folders[1:], tables[1:], strict=True):
        odd = sorted(set(table) ^ set(tables[0]))
        if odd:
            raise QCompileError(
                Code.DATA_NAMES,
                f"{root}: {odd[0]} is in only one of {folders[0].name} and {folder.name}",
            )
    return [
        Source(
            f"{root.resolve().name}/{name}",
            {folder.name: open_npy(t[name]) for folder, t in zip(folders, tables, strict=True)},
        )
        for name in tables[0]
    ]
