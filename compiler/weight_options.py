"""What may be asked of weights: granularity, form, widths and zero points, held to the scheme."""

from collections.abc import Mapping
from typing import Final

import onnx_ir as ir

from qcompile.compiler.options import GROUP, Scheme, check_choice
from qcompile.core.errors import Code, QCompileError
from qcompile.core.plan import QuantPlan
from qcompile.core.schemes import (
    FLOAT_SCHEMES,
    LOW_BIT_TOKENS,
    SIGNS,
    WEIGHT_FORMS,
    WEIGHT_ONLY,
    split_scheme,
)
from qcompile.core.target import Target

GRANULARITIES: Final = ("tensor", "channel")
BY_TOKEN: Final = "token"
"""A granularity of activations that are quantized as the model runs."""
SYMMETRIES: Final = ("symmetric", "asymmetric")
_MOST_POWER_BITS: Final = 4


def check_granularity(asked: str | None, scheme: str, *, tokens: bool = False) -> str | None:
    """A granularity, if it is one that weights of the scheme can have.

    Args:
        asked: by the user.
        scheme: its name.
        tokens: whether the target is to give tokens scales of their own.

    Raises:
        QCompileError: BAD_OPTION.
    """
    if asked is None:
        return None
    if scheme in FLOAT_SCHEMES:
        raise QCompileError(
            Code.BAD_OPTION,
            f"--granularity {asked}: scheme {scheme} has no scales",
            hint="leave it out",
        )
    if asked in GRANULARITIES:
        return asked
    if asked == BY_TOKEN and not scheme.endswith("-dynamic"):
        raise QCompileError(
            Code.BAD_OPTION,
            f"--granularity {asked}: {scheme} finds no scales as the model runs",
            hint="it goes with w8a8-dynamic",
        )
    if asked == BY_TOKEN:
        return asked
    if not asked.startswith(GROUP):
        check_choice("--granularity", asked, (*GRANULARITIES, BY_TOKEN, f"{GROUP}N"))
    size = asked.removeprefix(GROUP)
    if not size.isdecimal() or int(size) < 1:
        raise QCompileError(
            Code.BAD_OPTION,
            f"--granularity {asked}: a group has a number of elements",
            hint="as in group:32",
        )
    if scheme not in WEIGHT_ONLY and not (tokens and scheme in LOW_BIT_TOKENS):
        raise QCompileError(
            Code.BAD_OPTION,
            f"--granularity {asked}: the kernels of {scheme} take a scale a tensor or channel",
            hint=f"groups go with {', '.join(WEIGHT_ONLY)}",
        )
    return f"{GROUP}{int(size)}"


def check_weights(form: str, scheme: str, granularity: str | None) -> str:
    """What weights are stored as, if the scheme can have them so.

    Raises:
        QCompileError: BAD_OPTION.
    """
    if check_choice("--weights", form, WEIGHT_FORMS) == "int":
        return form
    if scheme not in WEIGHT_ONLY:
        what, hint = f"{scheme} computes with its weights", f"it is for {', '.join(WEIGHT_ONLY)}"
    elif scheme in SIGNS:
        what, hint = "signs need no table", "w2 --weights codebook"
    elif granularity is not None and granularity not in GRANULARITIES:
        what, hint = (
            f"tables are for a tensor or a channel, not {granularity}",
            "--granularity tensor",
        )
    elif form == "pow2" and WEIGHT_ONLY[scheme] > _MOST_POWER_BITS:
        what = "more exponents than four bits have keep nothing more"
        hint = "w4 --weights pow2, or w8 --weights codebook"
    else:
        return form
    raise QCompileError(Code.BAD_OPTION, f"--weights {form}: {what}", hint=hint)


def check_form(form: str, target: Target) -> None:
    """Hold a form of stored weights to what the target's runtime can read.

    Raises:
        QCompileError: SCHEME_UNSUPPORTED.
    """
    if form not in target.weight_forms:
        raise QCompileError(
            Code.SCHEME_UNSUPPORTED,
            f"--weights {form}: {target.name} has no operator that reads weights through a table, "
            "and does not look them up when it loads a model",
            hint=f"it takes {', '.join(target.weight_forms)}",
        )


def read_bits(asked: float | None, scheme: str, form: str) -> float | None:
    """What weights may take on average; None where nothing was asked.

    Raises:
        QCompileError: BAD_OPTION.
    """
    if asked is None:
        return None
    if scheme not in WEIGHT_ONLY or scheme in SIGNS or form != "int":
        what = f"{scheme if form == 'int' else form} has no widths to mix"
        raise QCompileError(
            Code.BAD_OPTION,
            f"--bits-per-weight {asked:g}: {what}",
            hint="it is for --scheme w4, or another that stores weights in integers alone",
        )
    if not 0 < asked <= 32:
        raise QCompileError(Code.BAD_OPTION, f"--bits-per-weight {asked:g} is no number of bits")
    return asked


def read_symmetry(
    asked: str | None, scheme: str, form: str, *, tokens: bool = False
) -> bool | None:
    """Whether groups are to have their zero point in the middle; None where nothing was asked.

    Args:
        asked: by the user.
        scheme: its name.
        form: of its weights.
        tokens: whether the target is to give tokens scales of their own.

    Raises:
        QCompileError: BAD_OPTION.
    """
    if asked is None:
        return None
    check_choice("--symmetry", asked, SYMMETRIES)
    if scheme not in WEIGHT_ONLY and not (tokens and scheme in LOW_BIT_TOKENS):
        raise QCompileError(
            Code.BAD_OPTION,
            f"--symmetry {asked}: the kernels of {scheme} say where its zero points lie",
            hint=f"it is for {', '.join(WEIGHT_ONLY)}",
        )
    if form != "int":
        raise QCompileError(
            Code.BAD_OPTION,
            f"--symmetry {asked}: tables have no zero points",
            hint="leave it out, or take --weights int",
        )
    return asked == SYMMETRIES[0]


def check_beside_plan(given: Mapping[str, object], saved: QuantPlan) -> None:
    """Refuse what was asked of weights that a saved plan has decided.

    A granularity of tensors or channels beside integer activations stays: sums are proven again,
    and weights that are not safe may have to be scaled by channel.

    Raises:
        QCompileError: BAD_OPTION.
    """
    stored = split_scheme(saved.scheme)[0] in WEIGHT_ONLY
    groups = stored or str(given.get("granularity") or "").startswith(GROUP)
    for name in ("symmetry", "bits_per_weight", *(("granularity",) if groups else ())):
        asked = given.get(name)
        if asked is not None:
            option = f"--{name.replace('_', '-')}"
            raise QCompileError(
                Code.BAD_OPTION,
                f"{option} {asked}: --plan says how every weight is stored",
                hint=f"leave {option} out, or build without --plan",
            )


def check_weights_found(scheme: Scheme, plan: QuantPlan, graph: ir.Graph) -> None:
    """Refuse options of stored weights where the model has none that can be stored.

    Args:
        scheme: what was asked for.
        plan: of a weight-only scheme, with its modes.
        graph: that it is of.

    Raises:
        QCompileError: BAD_OPTION with why its largest weight is not.
    """
    asked = {
        "--granularity": scheme.granularity,
        "--symmetry": scheme.symmetric,
        "--bits-per-weight": scheme.bits_per_weight,
    }
    options = [option for option, value in asked.items() if value is not None]
    if not options or any(entry.role == "weight" for entry in plan.values.values()):
        return
    heaviest = max(graph, key=_constants, default=None)
    why = plan.nodes[heaviest.name or ""].reason if heaviest is not None else "it has no nodes"
    raise QCompileError(
        Code.BAD_OPTION,
        f"{', '.join(options)}: no weight of the model can be stored in integers alone ({why})",
        hint=f"leave {' and '.join(options)} out, or take w8a8",
    )


def _constants(node: ir.Node) -> int:
    """Elements of the constants that a node reads."""
    return sum(
        v.const_value.size for v in node.inputs if v is not None and v.const_value is not None
    )
