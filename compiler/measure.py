"""Runs a finished artefact beside its float model: accuracy, latency, and what the files are."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import onnx_ir as ir

from qcompile.compiler.data.dataset import Dataset
from qcompile.compiler.data.decoder import complete
from qcompile.compiler.data.firing import check_firing
from qcompile.compiler.data.growth import check_growth
from qcompile.compiler.data.lint import Watched
from qcompile.compiler.data.scaling import check_scaling, first_layers
from qcompile.compiler.importers.onnx import Imported
from qcompile.compiler.progress import Counter
from qcompile.compiler.report.accuracy import Accuracy
from qcompile.compiler.report.decoding import CacheBytes, Decoding
from qcompile.compiler.report.latency import Latency
from qcompile.compiler.report.model import ModelInfo
from qcompile.compiler.verify.accuracy import evaluate
from qcompile.compiler.verify.decoding import PROMPT, times_as_decoder, uses_of
from qcompile.compiler.verify.latency import PRECISION, compare_latency
from qcompile.compiler.verify.stored_state import with_stored_state
from qcompile.compiler.verify.user_metric import UserMetric
from qcompile.core.accelerator import Kernels, Offload
from qcompile.core.backend import Backend, Facts
from qcompile.core.decoder_ends import DecoderEnds, decoder_ends
from qcompile.core.ends import End, FloatEnds
from qcompile.core.executor import Executor, Feeds, Session
from qcompile.core.memory import give_back
from qcompile.core.notes import Note
from qcompile.core.signature import Signature
from qcompile.core.target import Target
from qcompile.targets.catalog import load_target, target_names
from qcompile.targets.host import runs_here
from qcompile.targets.onnxruntime.executor import open_file
from qcompile.targets.onnxruntime.footprint import peak_memory_mb


@dataclass(frozen=True)
class Reference:
    """The user's float model, run as it is where the runtime takes it."""

    path: Path
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    ends: Mapping[str, End] = field(default_factory=dict)
    """Its integer ends, which are fed and read as what they stand for."""
    signature: Signature | None = None
    """Of the model; None where nobody asks whether it is a decoder."""

    @property
    def decoder(self) -> DecoderEnds | None:
        """Its ends as a language model."""
        return None if self.signature is None else decoder_ends(self.signature)

    def session(self, threads: int = 1, *, lean: bool = False) -> Session:
        """Load the user's own file; not our reading of it, so that a fault of ours shows.

        ``lean`` where memory counts for more than time.
        """
        opened = open_file(self.path, threads=threads, lean=lean)
        return FloatEnds(opened, self.ends) if self.ends else opened


@dataclass(frozen=True)
class Pair:
    """A float model and what was made of it."""

    reference: Reference
    artefact: bytes | Path
    backend: Backend
    facts: Facts
    target: Target | None = None
    baseline: bytes | None = None
    """The float model as the back end writes it, where its runtime does not run the user's file."""

    @property
    def decoder(self) -> DecoderEnds | None:
        """The artefact's ends as a language model."""
        return decoder_ends(Signature(self.facts.inputs, self.facts.outputs))

    def candidate(self, *, exact: bool) -> FloatEnds:
        """The artefact, to be fed and read as the float model is."""
        session = self.opened(exact=exact)
        return FloatEnds(with_stored_state(session, self.facts.inputs), self.facts.ends)

    def opened(self, *, exact: bool) -> Session:
        """The artefact as it is."""
        return self.backend.open(self.artefact, exact=exact, kernels=self.kernels)

    @property
    def kernels(self) -> Kernels:
        """Which kernels stand in for the target's when accuracy is judged here."""
        accelerator = None if self.target is None else self.target.accelerator
        return "default" if accelerator is None else accelerator.kernels

    @property
    def arithmetic(self) -> str:
        """Whose arithmetic that is; empty where it is the target's own."""
        accelerator = None if self.target is None else self.target.accelerator
        if accelerator is not None and accelerator.judged:
            return accelerator.judged
        return "" if self.at_home else self.backend.elsewhere

    def float_session(self) -> FloatEnds:
        """What latency is compared with: the float model in the artefact's own runtime."""
        if self.baseline is None:
            return FloatEnds(self.reference.session(), {})
        ends = self.backend.facts(self.baseline).ends
        return FloatEnds(self.backend.open(self.baseline), ends)

    @property
    def at_home(self) -> bool:
        """Whether this machine is one that the artefact was made for."""
        return self.target is None or runs_here(self.target)


def accuracy(
    pair: Pair,
    data: Dataset,
    described: str,
    threads: int,
    counter: Counter | None,
    metric: UserMetric | None = None,
) -> Accuracy:
    """The artefact against the float model on some samples.

    On a machine that the artefact is not made for, its integer sums are computed exactly: they
    are what its target computes, while this machine's fastest kernels may saturate.
    """
    reference = pair.reference.session(lean=True)
    candidate = pair.candidate(exact=not pair.at_home)
    give_back()  # what was only needed to load them
    return evaluate(
        reference,
        candidate,
        data,
        data=described,
        threads=threads,
        arithmetic=pair.arithmetic,
        metric=metric,
        counter=counter,
    )


@dataclass(frozen=True)
class Times:
    """What a clock said of a model and its artefact."""

    latency: Latency | None = None
    """Of one run; of a decoder, of one token behind others."""
    why: str = ""
    """There is none, where there is none."""
    decoding: Decoding | None = None
    """Of a decoder."""


def times(pair: Pair, feeds: Feeds, *, memory: bool = False) -> Times:
    """Time both models on one sample with one thread; a reason instead where that says nothing.

    Args:
        pair: the models.
        feeds: the sample; of a decoder its tokens are the prompt.
        memory: also see what memory a process needs to run each; takes a run of each.
    """
    if not pair.at_home:
        name = pair.target.name if pair.target is not None else ""
        return Times(why=f"this machine is not one that {name} is made for")
    own, theirs = pair.reference.decoder, pair.decoder
    if own is None or theirs is None or not times_as_decoder(own, theirs, feeds):
        return Times(_latency(pair, feeds))
    sessions: dict[str, Session] = {
        "float": pair.float_session().session,
        "integer": pair.opened(exact=False),
    }
    tokens = feeds[own.tokens.name][0]
    uses = [uses_of(s, e, tokens) for s, e in zip(sessions.values(), (own, theirs), strict=True)]
    prefill, decode = (
        compare_latency(
            sessions,
            {name: [getattr(use, kind)] for name, use in zip(sessions, uses, strict=True)},
            precision=PRECISION,
        )
        for kind in ("prefill", "decode")
    )
    count = min(len(tokens), PROMPT)
    found = Decoding(past=count, prompt=count, prefill=prefill)
    if memory and isinstance(pair.artefact, Path):
        paths = (pair.reference.path, pair.artefact)
        before, after = (
            peak_memory_mb(path, (use.prefill, use.decode))
            for path, use in zip(paths, uses, strict=True)
        )
        found = replace(found, float_memory_mb=before, artefact_memory_mb=after)
    return Times(replace(decode, each=f"one token behind {count} others"), decoding=found)


def cache_bytes(pair: Pair) -> CacheBytes | None:
    """What a token takes in the caches of a decoder; None for other models."""
    own, theirs = pair.reference.decoder, pair.decoder
    if own is None or theirs is None or not own.caches:
        return None
    return CacheBytes(floats=own.token_bytes, artefact=theirs.token_bytes)


def _latency(pair: Pair, feeds: Feeds) -> Latency:
    pairs = {"float": pair.float_session(), "integer": pair.candidate(exact=False)}
    sessions: dict[str, Session] = {name: ends.session for name, ends in pairs.items()}
    fed: dict[str, list[Feeds]] = {name: [ends.feeds(feeds)] for name, ends in pairs.items()}
    return compare_latency(sessions, fed, precision=PRECISION)


def off_share(pair: Pair, offload: Offload, feeds: Feeds) -> float | None:
    """What the nodes off the target cost of the artefact's time, where this machine can say."""
    if not offload.off or not pair.at_home or pair.target is None or pair.facts.simulated:
        return None
    fed = pair.candidate(exact=False).feeds(feeds)
    if pair.decoder is not None:  # its caches may have parts of their own
        fed = complete(pair.decoder, fed)
    return pair.backend.off_share(pair.artefact, fed, pair.target)


def data_notes(data: Watched, model: ir.Model, *, is_random: bool) -> list[Note]:
    """Remarks on the calibration samples that were read; noise needs none."""
    if is_random:
        return []
    return data.notes([layer.input for layer in first_layers(model)])


def network_notes(
    data: Watched, model: ir.Model, executor: Executor, *, is_random: bool, threads: int
) -> list[Note]:
    """Remarks on what the calibration samples do in the float model; noise needs none.

    The float model is loaded for it: before the build holds anything else, that costs no peak.
    """
    if is_random:
        return []
    scaled = check_scaling(data, model, executor, threads=threads)
    # Data that are scaled wrongly leave channels dead: one remark is enough.
    notes = scaled or check_firing(data, model, executor, threads=threads)
    return [*notes, *check_growth(data, model, executor)]


def file_info(path: Path, imported: Imported) -> ModelInfo:
    """What a model file is, as it stands on disk."""
    return ModelInfo(
        name=imported.name or path.name,
        bytes=sum(file.stat().st_size for file in imported.weight_files),
        nodes=imported.source_nodes,
        sha256=_sha256((imported.files or imported.weight_files)[0]),
        opset=imported.source_opset,
        inputs=imported.signature.inputs,
        outputs=imported.signature.outputs,
    )


def artefact_info(artefact: bytes, facts: Facts, name: str) -> ModelInfo:
    """What a finished artefact is."""
    return ModelInfo(
        name=name,
        bytes=len(artefact),
        nodes=facts.nodes,
        sha256=hashlib.sha256(artefact).hexdigest(),
        opset=facts.opset,
        inputs=facts.inputs,
        outputs=facts.outputs,
    )


def known_target(name: str) -> Target | None:
    """The target of that name, if it is one that qcompile knows."""
    return load_target(name) if name in target_names() else None


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
