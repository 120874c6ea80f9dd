"""The operator tables of the Ethos-U targets: read from Vela's report, and not stale."""

from pathlib import Path

import pytest

from qcompile.targets import descriptions
from qcompile.targets.catalog import load_target
from qcompile.targets.ethos_u.operators import description, generated, read_supported
from tests.targets.ethos_u.models import ALL, U55, U65, U85

REPORT = """\
# Supported Ops
## Chip TFLite Summary Table
| Operator | TFLite Constraints |
| --- | --- |
| ADD | [Generic](#a) |
| CONV_2D | [Generic](#a), [Specific](#b) |
| SUB | [Generic](#a) |

## Chip TFLite Generic Constraints
This is a list.

- Tensors must have constant shape.
- Scales are positive.
  - Exceptions: [PAD]

## Chip Specific Operator constraints

### Chip TFLite CONV_2D Constraints
- Kernel constraints:
  - IF padding=VALID:
    - Kernel height must be less than "8".
  - ELSE:
    - 4

## Chip TOSA Operator Support
| MUL | none |
"""


def test_the_report_becomes_sentences() -> None:
    supported = read_supported(REPORT, "Chip")
    assert supported.generic == (
        "Tensors must have constant shape",
        "Scales are positive (Exceptions: [PAD])",
    )
    conv = ('Kernel constraints: IF padding=VALID: Kernel height must be less than "8"; ELSE: 4',)
    assert supported.operators == {"ADD": (), "CONV_2D": conv, "SUB": ()}


def test_an_op_leaves_when_none_of_its_kernels_is_taken() -> None:
    text = description(read_supported(REPORT, "Chip"), "Chip", "Vela 9")
    assert '[ops.Gelu]\nleaves = "Vela 9 takes no GELU"' in text
    assert "[ops.Add]\nconditions = []" in text
    assert '"DEPTHWISE_CONV_2D: it runs on the processor",' in text
    assert r'less than \"8\"; ELSE: 4",' in text, "quoted as TOML wants it"


@pytest.mark.ethos_u
@pytest.mark.parametrize("name", ["_ethos-u55.toml", "_ethos-u85.toml"])
def test_the_tables_are_those_of_the_installed_vela(name: str) -> None:
    """Else run: python -m qcompile.targets.ethos_u.operators."""
    folder = Path(next(iter(descriptions.__path__)))
    assert generated()[name] == (folder / name).read_text(encoding="utf-8")


def test_chips_of_one_family_share_a_table() -> None:
    u55, u65, u85 = map(load_target, (U55, U65, U85))
    assert u55.ops == u65.ops
    assert u55.ops["Softplus"].leaves
    assert not u85.ops["Softplus"].leaves, "the U85 gathers"


@pytest.mark.parametrize("name", ALL)
def test_every_target_names_chip_system_and_memory(name: str) -> None:
    accelerator = load_target(name).accelerator
    assert accelerator is not None
    assert accelerator.kernels == "reference"
    assert accelerator.options["accelerator-config"] == name.removeprefix("tflite-")
    wanted = {"accelerator-config", "config", "system-config", "memory-mode"}
    assert set(accelerator.options) == wanted
