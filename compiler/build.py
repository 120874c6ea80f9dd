"""``build``: a float model in, proven and measured integer models out."""

from dataclasses import dataclass, replace

import onnx_ir as ir

from qcompile.compiler.app_info import gather_app_info
from qcompile.compiler.caches import attention_nodes, with_caches
from qcompile.compiler.compile_quantized import check_options, compile_quantized, dropped
from qcompile.compiler.config import Config
from qcompile.compiler.data.decoder import made_notes
from qcompile.compiler.data.options import DataSpec
from qcompile.compiler.data.text import check_tokenizer
from qcompile.compiler.emit import GENAI
from qcompile.compiler.encodings.alone import compile_by_encodings, no_scales
from qcompile.compiler.encodings.importing import import_notes
from qcompile.compiler.files import file_name, write_files
from qcompile.compiler.finish import BuildResult, Finish, Shared
from qcompile.compiler.genai.folder import check_decoder
from qcompile.compiler.importers.onnx import Imported
from qcompile.compiler.importers.source import load_source, open_source
from qcompile.compiler.kept_state import state_nodes
from qcompile.compiler.measure import Reference, network_notes
from qcompile.compiler.mixed.staying_fast import StayingFast
from qcompile.compiler.mixed.within import within_budgets
from qcompile.compiler.nodata import decide
from qcompile.compiler.options import BuildOptions
from qcompile.compiler.output import OutputSet
from qcompile.compiler.parity import with_parity
from qcompile.compiler.pipeline import (
    Compiled,
    compile_graph,
    is_quantized,
    prepare_with_scales,
    replay,
)
from qcompile.compiler.pixels import raw_input, take_bytes
from qcompile.compiler.progress import Progress, Timed
from qcompile.compiler.runner import PassRecord, dump
from qcompile.compiler.samples import FeedsOf, Samples, choose_samples
from qcompile.compiler.wide_model import fitting
from qcompile.core.app_info import AppInfo
from qcompile.core.budget import Budget
from qcompile.core.decoder_ends import decoder_ends
from qcompile.core.errors import Code, QCompileError
from qcompile.core.notes import Note
from qcompile.core.plan import QuantPlan
from qcompile.core.target import Target
from qcompile.passes.plan.retype import retyped
from qcompile.targets.onnxruntime.executor import OrtExecutor

EFFORT_SHARE = 0.6
"""Part of the time budget for the search by effort, where layers are ranked after it."""


@dataclass
class Build:
    """One build; ``run`` is the order of its steps.

    For several targets there is one plan, made for what they have in common
    (``options.target``), and an artefact for each; or with ``options.separate_plans`` one for each.
    """

    model: str
    """As the user named it."""
    options: BuildOptions
    config: Config
    data: DataSpec | None
    eval_data: DataSpec | None
    out: OutputSet | None
    progress: Progress
    several: bool = False
    """Whether the files bear the name of their target."""

    def run(self) -> list[BuildResult]:
        """Do everything; files appear together at the end, or not at all.

        None appears either when a budget is not kept.
        """
        self.samples: Samples
        with open_source(self.model, self.options.importing) as self.source:
            results = self._make_apart() if self.options.separate_plans else self._make()
            results = with_parity(results, self.options, self.samples, self.timed)
        if self.out is not None and all(result.report.passed for result in results):
            with self.timed.stage("write"):
                write_files(self.out, results, self.options, several=self.several)
        return results

    def _make_apart(self) -> list[BuildResult]:
        """The artefacts of as many builds as there are targets, nothing shared."""
        self.timed = Timed(self.progress)
        results = []
        for options in self.options.apart():
            one = replace(self, options=options)
            one.source = self.source
            results += one._make()
            self.samples = one.samples
        return results

    def _make(self) -> list[BuildResult]:
        """The artefacts, of one plan."""
        self.timed = Timed(self.progress)
        self.budget = Budget(self.options.scheme.time_budget)
        self.executor = OrtExecutor(as_written=needs_plain_runs(self.options.target))
        self.passes: list[PassRecord] = []
        self.notes: list[Note] = []
        self.described = ""
        imported = self._import()
        self._fit(imported)
        app = gather_app_info(self.config, imported.signature, self.options.class_names)
        samples = self._samples(imported)
        compiled = self._compile(imported, samples, app)
        if self.described:
            samples = replace(samples, described=self.described)
        shared = Shared(
            self.source.path,
            self.options,
            imported,
            samples,
            compiled,
            self.executor,
            self.timed,
            self.passes,
            self.notes,
            app,
        )
        self.samples = samples
        return [
            Finish(shared, target, ends, file_name(self.out, target, several=self.several)).run()
            for target, ends in zip(self.options.targets, self.options.ends, strict=True)
        ]

    def _import(self) -> Imported:
        with self.timed.stage("import"):
            static = self.options.target.static_shapes
            imported = load_source(self.source, self.options.shapes, static=static)
            if self.out is not None:
                self.out.protect(imported.files)
        if GENAI in self.options.emit:
            check_decoder(imported.signature, self.options.scheme.kv)
        check_tokenizer(self.config.tokenizer, imported.signature)
        self.notes += imported.notes
        return imported

    def _fit(self, imported: Imported) -> None:
        """Take the scheme that a quantized model is in, where none was named."""
        self.options, notes = fitting(self.options, imported.model)
        self.notes += notes
        if notes:
            self.executor = OrtExecutor(as_written=needs_plain_runs(self.options.target))

    def _samples(self, imported: Imported) -> Samples:
        reference = Reference(self.source.path, self.options.shapes, imported.ends)
        samples = choose_samples(
            imported.signature,
            self.config,
            self.data,
            self.eval_data,
            needed=(self.options.scheme.needs_data or bool(self.options.scheme.kv))
            and self.options.plan is None
            and self.options.scheme.encodings is None  # they may give every scale
            and (self.options.requantize or not is_quantized(imported.model))  # so may it
            and not self.options.without_data,
            random=self.options.random_data,
            seed=self.options.seed,
            calibrates=self.options.scheme.learns,
            open_float=reference.session,
        )
        data = samples.calibration if samples.calibration is not None else samples.judged
        ends = decoder_ends(imported.signature)
        if ends is not None and data is not None and not samples.is_random:
            self.notes += made_notes(ends, data[0].feeds)
        return samples

    def _compile(self, imported: Imported, samples: Samples, app: AppInfo | None) -> Compiled:
        self._bind_encodings(imported)
        scheme, target = self.options.scheme, self.options.target
        with self.timed.stage("prepare"):
            model, scales = prepare_with_scales(
                imported,
                scheme,
                lambda record, _: self.passes.append(record),
                unroll=target.unroll,
                requantize=self.options.requantize,
            )
        if scales is None:  # else the model says what its bytes are
            kept = {**state_nodes(model.graph, self.config.state), **imported.float_nodes}
            imported = replace(imported, float_nodes=kept)
            floats = attention_nodes(model, target, scheme)
            imported = replace(imported, float_nodes={**floats, **imported.float_nodes})
            raw = raw_input(self.config, imported, app, self.options)
            imported, said = take_bytes(imported, model, samples, raw)
            self.notes += said
        else:
            self.notes += dropped(scales, scheme)
        if samples.calibration is not None:
            with self.timed.stage("lint"):
                self.notes += network_notes(
                    samples.calibration,
                    model,
                    self.executor,
                    is_random=samples.is_random,
                    threads=scheme.threads,
                )
        saved = self.options.plan
        if saved is not None:
            self.notes += saved.notes
            with self.timed.stage("replay the plan"):
                compiled = replay(
                    model, self._in_u8(saved.plan), target, scheme, imported.float_nodes
                )
            if self.options.has_budgets or self.options.never_slower:
                what = "budgets were" if self.options.has_budgets else "--never-slower was"
                self.notes.append(
                    Note("info", f"{what} not looked at: the plan says what is float")
                )
        elif scales is not None and scheme.needs_data:
            check_options(self.options)
            feeds = FeedsOf(samples.calibration) if samples.calibration is not None else ()
            compiled = compile_quantized(
                model,
                scales,
                target,
                scheme,
                self.executor,
                feeds,
                self.timed,
                imported.float_nodes,
            )
            if compiled.ranges == "imported":
                self.described = f"none: every scale is that of {self.source.name}"
        elif (made := self._by_itself(model, imported, samples)) is not None:
            compiled = self._never_slower(made, imported, samples, model, app)
        else:
            scheme, target = self.options.scheme, self.options.target
            feeds = FeedsOf(samples.calibration) if samples.calibration is not None else ()
            compiled = compile_graph(
                model,
                target,
                scheme,
                self.executor,
                feeds,
                self.timed,
                imported.float_nodes,
                self._effort_budget(),
            )
            compiled.plan.from_noise = samples.is_random and scheme.learns
            compiled = within_budgets(
                self.options,
                self.source.path,
                imported,
                samples.calibration,
                model,
                compiled,
                self.executor,
                self.timed,
                self.budget,
                app,
            )
            compiled = self._never_slower(compiled, imported, samples, model, app)
        compiled = self._with_caches(compiled, samples)
        if scheme.encodings is not None:
            self.notes += import_notes(scheme.encodings, model.graph, compiled.plan, target)
        self.notes += compiled.notes
        if scheme.dump_dir is not None and compiled.plan.nodes:
            dump(compiled.qdq, scheme.dump_dir / f"{len(self.passes):02d}_InsertQDQ")
        return compiled

    def _with_caches(self, compiled: Compiled, samples: Samples) -> Compiled:
        """The plan with a decoder's attentions and caches; a saved one has them already."""
        if self.options.plan is not None:
            return compiled
        scheme, target = self.options.scheme, self.options.target
        feeds = FeedsOf(samples.calibration) if samples.calibration is not None else ()
        return with_caches(compiled, target, scheme, self.executor, feeds, self.timed)

    def _effort_budget(self) -> Budget:
        """The time that the search by effort may take: all, or a part where budgets follow."""
        options = self.options
        follows = options.has_budgets or options.sensitivity or options.never_slower
        return self.budget.share(EFFORT_SHARE) if follows else self.budget

    def _never_slower(
        self,
        compiled: Compiled,
        imported: Imported,
        samples: Samples,
        model: ir.Model,
        app: AppInfo | None,
    ) -> Compiled:
        """The plan with float what takes longer as integers, where that was asked for."""
        step = StayingFast(
            self.options,
            self.source.path,
            imported,
            samples,
            model,
            self.executor,
            self.timed,
            self.budget,
            app,
        )
        return step.run(compiled)

    def _by_itself(self, model: ir.Model, imported: Imported, samples: Samples) -> Compiled | None:
        """The plan of a build that has no samples and needs none."""
        by_encodings = self._by_encodings(model, imported, samples)
        return self._without_data(model, imported) if by_encodings is None else by_encodings

    def _by_encodings(
        self, model: ir.Model, imported: Imported, samples: Samples
    ) -> Compiled | None:
        """The plan of a file of encodings, where there are no samples and it gives every scale."""
        scheme, target, floats = self.options.scheme, self.options.target, imported.float_nodes
        if scheme.encodings is None or not scheme.needs_data or samples.calibration is not None:
            return None
        compiled = compile_by_encodings(model, target, scheme, floats)
        if compiled is None and not self.options.without_data:
            raise no_scales(model, target, scheme, scheme.encodings, floats)
        if self.options.has_budgets or self.options.sensitivity:
            raise QCompileError(
                Code.NO_DATA,
                "budgets and the list of layers need samples to judge on",
                hint="give calibration data with -d",
            )
        if compiled is not None:
            self.described = f"none: every scale is given by {scheme.encodings.path.name}"
        return compiled

    def _without_data(self, model: ir.Model, imported: Imported) -> Compiled | None:
        """``-d none``: choose the scheme; its plan, where it has ranges that need no samples."""
        if not self.options.without_data:
            return None
        with self.timed.stage("decide without data"):
            decision = decide(model, self.options, imported, self.config)
        self.options = decision.options
        self.notes += decision.notes
        self.described = decision.described
        return decision.compiled

    def _bind_encodings(self, imported: Imported) -> None:
        """Let a file of encodings see the user's model, which preparation is about to change."""
        scheme = self.options.scheme
        if scheme.encodings is not None:
            scheme = replace(scheme, encodings=scheme.encodings.of(imported.model))
            self.options = replace(self.options, scheme=scheme)

    def _in_u8(self, plan: QuantPlan) -> QuantPlan:
        """A saved plan, which has its target's own types, in those that plans are made in."""
        made_in, own = self.options.target.activations.dtype, self.options.targets[0].activations
        entries = plan.values.values()
        types = {v.dtype for v in entries if v.role == "activation"} - {"int16"}
        if types != {own.dtype} or own.dtype == made_in:
            return plan  # a type that an edit brought in is for the check of the plan to refuse
        return replace(retyped(plan, self.options.target, plan.ends), target=plan.target)


def needs_plain_runs(target: Target) -> bool:
    """Whether ONNX Runtime's optimizer changes what graphs of these types compute."""
    one_byte = {"int8", "uint8"}
    return target.simulated or not {target.activations.dtype, target.weights.dtype} <= one_byte
