"""``qcompile targets``: which targets there are, and what each does with which op."""

import json
from typing import Final

import click

from qcompile.compiler.cli.streams import results
from qcompile.compiler.report.operators import conditions, numbers, operator_page
from qcompile.compiler.report.page import Page, Remark, Table
from qcompile.core.target import OpRule, Target
from qcompile.targets.catalog import load_target, target_names
from qcompile.targets.host import host_target, runs_here

_RUNTIMES: Final = {"onnxruntime": "ONNX Runtime", "tflite": "LiteRT"}


@click.command("targets")
@click.argument("name", required=False)
@click.option("--ops", is_flag=True, help="The operators of NAME alone: types and conditions.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(name: str | None, ops: bool, as_json: bool) -> None:
    """List the targets, or show one with its operator table.

    NAME is one of the targets listed, or the path of a description file of your own (.toml).
    """
    if ops and not name:
        raise click.UsageError("--ops needs the name of a target")
    page, data = _one(load_target(name)) if name else _all()
    if ops and name:
        target = load_target(name)
        page, data = operator_page(target), _operators(target)
    with results() as stream:
        if as_json:
            json.dump(data, stream, indent=2, sort_keys=True, ensure_ascii=False)
            stream.write("\n")
        else:
            from qcompile.compiler.report.table_view import print_page

            print_page(page, stream)


def _all() -> tuple[Page, object]:
    targets = [load_target(name) for name in target_names()]
    here = host_target()
    rows = tuple(
        (
            target.name,
            target.title,
            f"{_RUNTIMES.get(target.runtime, target.runtime)} >= {target.min_runtime}",
            "default" if target.name == here else "yes" if runs_here(target) else "no",
        )
        for target in targets
    )
    data = [
        {
            "name": target.name,
            "title": target.title,
            "runtime": target.runtime,
            "min_runtime": target.min_runtime,
            "runs_here": runs_here(target),
            "default": target.name == here,
        }
        for target in targets
    ]
    header = ("name", "title", "runtime", "runs here")
    return Page("Targets", (), (Table("", header, rows, whole=(0, 2)),)), data


def _one(target: Target) -> tuple[Page, object]:
    runtime = f"{_RUNTIMES.get(target.runtime, target.runtime)} {target.min_runtime} or newer"
    machine = ", ".join(target.machines) + (
        f" with {', '.join(target.features)}" if target.features else ""
    )
    facts = (
        ("title", target.title),
        ("runtime", runtime),
        ("machine", f"{machine or 'any'}; {'this' if runs_here(target) else 'not this'} one"),
        ("activations", numbers(target.activations.dtype, symmetric=target.activations.symmetric)),
        ("weights", numbers(target.weights.dtype, symmetric=target.weights.symmetric)),
        ("", f"a scale per {' or '.join(target.weights.granularity)}"),
        ("ends", target.ends),
        ("schemes", ", ".join(target.schemes)),
        ("shapes", "static" if target.static_shapes else "static or dynamic"),
        ("sums", _sums(target)),
    )
    rows = tuple((op, *_rule(rule)) for op, rule in sorted(target.ops.items()))
    tables = [Table("Integer", ("op", "kernels", "weight scale", "remarks"), rows, whole=(0, 1))]
    if target.float_ops:
        reasons = tuple(sorted(target.float_ops.items()))
        tables.append(Table("Float", ("op", "reason"), reasons, whole=(0,)))
    remarks = [Remark("info", target.evidence)] if target.evidence else []
    remarks += [Remark("warning", f"{name}: {cost}") for name, cost in _costs(target).items()]
    return Page(target.name, facts, tuple(tables), tuple(remarks)), _data(target)


def _operators(target: Target) -> dict[str, object]:
    """The operator table as it stands."""
    data = _data(target)
    return {key: data[key] for key in ("name", "ops", "float_ops", "conditions")}


def _costs(target: Target) -> dict[str, str]:
    """Scheme -> what to know before a build under it."""
    taken = {name: target.under(name).cost for name in target.schemes}
    return {name: cost for name, cost in taken.items() if cost}


def _sums(target: Target) -> str:
    saturation = target.saturation
    if saturation is None:
        return "exact"
    return (
        f"{saturation.products} products are added between {saturation.low} and "
        f"{saturation.high}: builds prove that they fit, or make them fit"
    )


def _rule(rule: OpRule) -> tuple[str, str, str]:
    weights = "-"
    if "weight" in rule.inputs:
        weights = "channel, tensor" if rule.per_channel else "tensor"
    return "\n".join(rule.kernels), weights, "; ".join(_remarks(rule))


def _remarks(rule: OpRule) -> list[str]:
    remarks = conditions(rule)
    if rule.absorbs:
        remarks.append(f"absorbs {', '.join(rule.absorbs)}")
    if rule.dynamic:
        remarks.append(f"dynamic: {', '.join(rule.dynamic)}")
    if rule.leaves:
        remarks.append(f"off the NPU: {rule.leaves}")
    return remarks


def _data(target: Target) -> dict[str, object]:
    """The description as it stands, with the answer to whether it runs here."""
    from dataclasses import asdict

    data = {**asdict(target), "runs_here": runs_here(target), "costs": _costs(target)}
    del data["variants"]
    return data
