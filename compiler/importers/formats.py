"""The formats that are not ONNX; one row each, the importer loaded when a model needs it."""

from typing import Final

from qcompile.compiler.importers import keras, tflite, torch_model
from qcompile.compiler.importers.options import Format

FORMATS: Final[tuple[Format, ...]] = (
    Format(tflite.FORMAT, tflite.is_tflite, tflite.convert_tflite),
    Format("keras", keras.fits_archive, keras.convert_archive),
    Format("keras-hdf5", keras.fits_hdf5, keras.convert_hdf5),
    Format("saved-model", keras.fits_saved_model, keras.convert_saved_model),
    Format("torch.export", torch_model.fits_program, torch_model.convert_program),
    Format("torch.save", torch_model.fits_pickle, torch_model.convert_pickle),
    Format("torch", torch_model.fits_function, torch_model.convert_function),
)
"""The first row that fits converts a model."""
