"""ONNX if it is proven to answer alike, the model's own framework if not and an engine has it, else a refusal.

Called on the bench by the modules that open models of other frameworks, each with what only it knows: how to write
ONNX, how to ask the model itself, what to try, and how to keep it as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from mofang.base.domain.errors import ConversionFailed, EngineLoadFailed, ParityFailed
from mofang.base.domain.tensors import Signature
from mofang.base.domain.work import Progress
from mofang.base.engines.catalog import load_engine
from mofang.base.engines.native import SIGNATURE_FILE
from mofang.make.convert.bench import Made
from mofang.make.convert.parity import LABEL, MISSING, Ask, Outcome, ParityProof, Trial, compare


@dataclass(frozen=True, slots=True)
class Attempt:
    """How one model may become ONNX. ``keep`` writes what an engine of its framework loads and returns its name."""

    write: Callable[[Path], Any]
    source: Ask
    trials: Sequence[Trial]
    keep: Callable[[Path], str] | None
    packages: tuple[str, ...]
    labels: tuple[str, ...] = ()
    tolerance: float = 1e-4


def onnx_or_native(attempt: Attempt, target: Path, progress: Progress) -> Made:
    """Write ``target/model.onnx`` and prove it on every trial; or keep the model as it is, and say why.

    Raises ConversionFailed or ParityFailed if there is no engine to keep it for.
    """
    try:
        progress.report("convert", 0.0, "converting to ONNX")
        attempt.write(target)
        return Made("onnx", attempt.labels, asdict(_prove(attempt, target, progress)), packages=attempt.packages)
    except (ConversionFailed, ParityFailed) as error:
        if attempt.keep is None:
            raise
        _empty(target)
        engine = attempt.keep(target)
        load_engine(engine, target).close()  # or there is nothing to fall back on
        return Made(engine, attempt.labels, why_native=error.message, packages=attempt.packages)


def _prove(attempt: Attempt, folder: Path, progress: Progress) -> ParityProof:
    try:
        engine = load_engine("onnx", folder)
    except EngineLoadFailed as error:
        raise ConversionFailed(f"what the converter wrote is no ONNX that can be loaded: {error.message}") from error
    try:
        outcome = compare(attempt.source, engine.infer, attempt.trials, progress, tolerance=attempt.tolerance)
        labels = any(spec.name == LABEL for spec in engine.signature.outputs)
    finally:
        engine.close()
    return _proof(attempt, outcome, labels)


def _proof(attempt: Attempt, outcome: Outcome, labels: bool) -> ParityProof:
    rows = sum(_rows(trial) for trial in attempt.trials if trial.where in outcome.alike)
    sizes = sorted({trial.batch or _rows(trial) for trial in attempt.trials})
    return ParityProof(
        rows,
        rows,
        outcome.max_difference,
        attempt.tolerance,
        tuple(sizes),
        _missing(outcome),
        compared="labels" if labels else "values",
        trials=outcome.alike,
    )


def _missing(outcome: Outcome) -> Literal["equal", "refused", "untried"]:
    if MISSING in outcome.refused:
        return "refused"
    return "equal" if MISSING in outcome.alike else "untried"


def _rows(trial: Trial) -> int:
    return len(next(iter(trial.inputs.values())))


def _empty(folder: Path) -> None:
    for path in folder.iterdir():  # the folder itself stays: it is what the sandbox lets one write into
        path.unlink()


def write_signature(signature: Signature, folder: Path) -> None:
    """Write the signature beside a native model, where its engine looks for it."""
    (folder / SIGNATURE_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(signature), indent=2) + b"\n")
