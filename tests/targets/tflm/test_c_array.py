"""Models as C source: what a compiler makes of it is the model, aligned."""

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from qcompile.targets.tflm.c_array import ALIGNMENT, c_header, c_name, c_source

DATA = np.random.default_rng(0).integers(0, 256, 1000, dtype=np.uint8).tobytes()
WHAT = "key words.tflite for tflite-micro"


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("kws", "kws_model"),
        ("key words.v2-final", "key_words_v2_final_model"),
        ("8bit", "m8bit_model"),
        ("int", "int_model"),
        ("größe", "gr_e_model"),
        ("模型", "model"),
        ("__x__", "x_model"),
        ('a"; evil(); //', "a_evil_model"),
    ],
)
def test_names_are_identifiers(stem: str, name: str) -> None:
    assert c_name(stem) == name
    assert re.fullmatch("[A-Za-z][A-Za-z0-9_]*", name)


def test_a_header_says_size_and_arena() -> None:
    text = c_header(DATA, "kws", WHAT, 24688).decode()
    assert "#define KWS_MODEL_SIZE 1000u" in text
    assert "#define KWS_MODEL_ARENA_SIZE 24688u" in text
    assert "extern const unsigned char kws_model[KWS_MODEL_SIZE];" in text
    assert "ARENA" not in c_header(DATA, "kws", WHAT).decode()


def test_a_comment_cannot_be_left() -> None:
    text = c_source(DATA, "x", "a */ int evil; /*\nb").decode()
    assert text.count("*/") == text.count("/*") - 1  # the opening one that a name held
    assert "evil; /*?b" in text


def test_equal_models_give_equal_bytes() -> None:
    assert c_source(DATA, "kws", WHAT) == c_source(bytes(DATA), "kws", WHAT)
    assert c_source(DATA, "kws", WHAT) != c_source(DATA[:-1] + b"x", "kws", WHAT)


@pytest.mark.parametrize(
    "flags", [["-std=c99", "-xc"], ["-std=c11", "-xc"], ["-std=c++11", "-xc++"]]
)
def test_a_compiler_makes_the_model_of_it(flags: list[str], tmp_path: Path) -> None:
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    (tmp_path / "kws.tflite.h").write_bytes(c_header(DATA, "kws", WHAT, 64))
    (tmp_path / "kws.tflite.c").write_bytes(c_source(DATA, "kws", WHAT))
    (tmp_path / "use.c").write_text(
        '#include "kws.tflite.h"\n#include "kws.tflite.h"\n'
        "unsigned long size(void) { return sizeof kws_model; }\n"
        "extern int here[KWS_MODEL_ARENA_SIZE == 64 ? 1 : -1];\n"
        '#ifdef __cplusplus\nextern "C"\n#endif\n'
        "const unsigned char *at(void) { return kws_model; }\n"
    )
    sources = [str(tmp_path / name) for name in ("kws.tflite.c", "use.c")]
    made = tmp_path / "kws.so"
    strict = ["-Wall", "-Wextra", "-Werror", "-pedantic", "-shared", "-fPIC"]
    subprocess.run([compiler, *strict, *flags, *sources, "-o", made], check=True)
    library = ctypes.CDLL(str(made))
    library.at.restype = ctypes.c_void_p
    assert library.at() % ALIGNMENT == 0
    assert ctypes.string_at(library.at(), len(DATA)) == DATA
    assert bytes((ctypes.c_ubyte * len(DATA)).in_dll(library, "kws_model")) == DATA
