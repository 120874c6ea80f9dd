"""What an app must know goes through JSON unchanged, and reads as sentences."""

import pytest

from qcompile.core.app_info import AppInfo, AppInput

FULL = AppInfo(
    {"x": AppInput((123.675, 116.28, 103.53), (58.395, 57.12, 57.375), "bgr", (256,), "bicubic",
                   (224, 200))},
    {"y": ("cat", "chien écossais", "")},
)  # fmt: skip


def test_json_and_back() -> None:
    assert AppInfo.from_json(FULL.to_json()) == FULL
    assert FULL.to_json() == FULL.to_json()
    assert "\n" not in FULL.to_json()


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "{}", '{"inputs":[],"class_names":{}}',
     '{"inputs":{"x":{"what":1}},"class_names":{}}',
     '{"inputs":{},"class_names":{"y":3}}'],
)  # fmt: skip
def test_what_is_none_of_ours(text: str) -> None:
    assert AppInfo.from_json(text) is None


def test_sentences() -> None:
    assert FULL.sentences() == [
        "input 'x': bgr pictures, resized to 256 (bicubic), 224 x 200 cut from the centre, "
        "(x - [123.675, 116.28, 103.53]) / [58.395, 57.12, 57.375]",
        "output 'y': 3 classes: cat, chien écossais, ",
    ]
    assert AppInfo({"x": AppInput((0.0,), (255.0,))}).sentences() == ["input 'x': (x - 0) / 255"]
