"""The model card: what a model is, how good, and on what, as Markdown with YAML metadata that hubs can read.

Called by the control API on demand, from what is stored. Its metadata follow the model card specification of the
Hugging Face Hub (``model-index``), so that other tools find the numbers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime

from mofang.base.domain.registry import ModelVersion
from mofang.make.evaluate.report import LabelScores, LanguageScores, RegressionScores, Report, RetrievalScores, Scores


def model_card(version: ModelVersion, dataset: str, report: Report | None, licence: str = "") -> str:
    """Write the card of ``version`` from its evaluation ``report`` on ``dataset`` (a name or digest), if it has one.

    ``licence`` is what its owner says of it.
    """
    return "\n".join([*_metadata(version, dataset, report, licence), *_body(version, dataset, report)]) + "\n"


def _metadata(version: ModelVersion, dataset: str, report: Report | None, licence: str) -> Iterator[str]:
    # JSON strings are YAML strings, whatever a name holds.
    quote = json.dumps
    yield "---"
    yield f"model_name: {quote(str(version))}"
    yield f"library_name: {quote(version.artifact.engine)}"
    if licence:
        yield f"license: {quote(licence)}"
    if report is None:
        yield "tags: [mofang]"
        yield "---"
        return
    kinds = {
        Scores: "tabular-classification",
        LabelScores: "tabular-classification",
        RetrievalScores: "sentence-similarity",
        LanguageScores: "text-generation",
    }
    task = kinds.get(type(report.scores), "tabular-regression")
    yield f"pipeline_tag: {task}"
    yield "tags: [mofang]"
    yield f"metrics: [{', '.join(name.removeprefix('macro_') for name in report.metrics)}]"
    yield "model-index:"
    yield f"  - name: {quote(version.model)}"
    yield "    results:"
    yield f"      - task: {{type: {task}}}"
    yield f"        dataset: {{name: {quote(dataset)}, type: {quote(dataset)}, split: test}}"
    yield "        metrics:"
    for name, value in report.metrics.items():
        yield f"          - {{type: {name.removeprefix('macro_')}, name: {name}, value: {value:.6f}}}"
    yield "---"


def _body(version: ModelVersion, dataset: str, report: Report | None) -> Iterator[str]:
    lineage = version.lineage
    made = datetime.fromtimestamp(version.created_at / 1e6, UTC)
    yield from ("", f"# {version}", "")
    yield f"Version {version.number} of `{version.model}`, registered {made:%Y-%m-%d %H:%M} UTC."
    yield from ("", "| | |", "|---|---|")
    yield f"| digest | `{version.digest}` |"
    yield f"| engine | {version.artifact.engine}, {version.artifact.size_bytes:,} bytes |"
    for kind, specs in (("input", version.artifact.signature.inputs), ("output", version.artifact.signature.outputs)):
        for spec in specs:
            meaning = version.artifact.meanings.get(spec.name, "")
            yield f"| {kind} | `{_cell(str(spec))}`{meaning and f' {_cell(meaning)}'} |"
    named = {"source": lineage.source, "run": lineage.run, "data": lineage.dataset, "recipe": lineage.recipe}
    for name, value in {**named, "code": lineage.code, "made from": lineage.parent}.items():
        if value:
            yield f"| {name} | `{_cell(value)}` |"
    if report is None:
        yield from ("", "It was not evaluated here.")
        return
    scores = report.scores
    yield from ("", "## Evaluation", "")
    yield (
        f"{scores.rows:,} held-out rows of `{dataset}`, answered by the served graph"
        f" in {report.seconds:.2f} s ({report.rows_per_second:,.0f} rows/s)."
    )
    yield from ("", *_verdict(report))
    if isinstance(scores, Scores):
        yield from (*_class_table(scores), *_confusions(scores))
    elif isinstance(scores, LabelScores):
        yield from _label_table(scores)
    elif isinstance(scores, RetrievalScores):
        yield from _neighbours(scores)
    elif isinstance(scores, LanguageScores):
        yield from _language(scores)
    else:
        yield from _errors(scores)


def _verdict(report: Report) -> Iterator[str]:
    if report.gate:
        yield f"Gate `{report.gate}`: {'passed' if report.passed else 'failed'}."
        yield from (f"- {failure}" for failure in report.failures)
        yield ""


def _class_table(scores: Scores) -> Iterator[str]:
    yield "| class | precision | recall | F1 | rows |"
    yield "|---|---:|---:|---:|---:|"
    for entry in scores.classes:
        numbers = f"{entry.precision:.4f} | {entry.recall:.4f} | {entry.f1:.4f} | {entry.support:,}"
        yield f"| {_cell(entry.label)} | {numbers} |"
    macro = f"{scores.macro_precision:.4f} | {scores.macro_recall:.4f} | {scores.macro_f1:.4f} | {scores.rows:,}"
    yield f"| **macro average** | {macro} |"
    yield from ("", f"Accuracy **{scores.accuracy:.4f}**.", "")


def _label_table(scores: LabelScores) -> Iterator[str]:
    yield "| label | precision | recall | F1 | rows |"
    yield "|---|---:|---:|---:|---:|"
    for entry in scores.classes:
        numbers = f"{entry.precision:.4f} | {entry.recall:.4f} | {entry.f1:.4f} | {entry.support:,}"
        yield f"| {_cell(entry.label)} | {numbers} |"
    for name in ("macro", "micro"):
        told = [f"{getattr(scores, f'{name}_{each}'):.4f}" for each in ("precision", "recall", "f1")]
        yield f"| **{name} average** | {' | '.join(told)} | {scores.rows:,} |"
    yield ""
    right, wrong = f"{scores.subset_accuracy:.2%}", f"{scores.hamming_loss:.2%}"
    yield f"Every label is right of **{right}** of the rows; {wrong} of all labels are wrong."


def _errors(scores: RegressionScores) -> Iterator[str]:
    """Tell how far off answers are, in the middle and at the ends."""
    yield "| MSE | RMSE | MAE | R² | MAPE |"
    yield "|---:|---:|---:|---:|---:|"
    yield f"| {scores.mse:.6g} | {scores.rmse:.6g} | {scores.mae:.6g} | {scores.r2:.4f} | {scores.mape:.2%} |"
    found = scores.residuals
    yield from ("", "## Limitations", "")
    yield f"- half of the answers lie between {found.p25:+.4g} and {found.p75:+.4g} of the truth"
    yield f"- nine of ten lie between {found.p05:+.4g} and {found.p95:+.4g}"
    yield f"- the furthest are {found.smallest:+.4g} and {found.largest:+.4g} off"


def _neighbours(scores: RetrievalScores) -> Iterator[str]:
    """Tell how often neighbours are of a text's own label."""
    yield "| recall at 1 | at 5 | at 10 | MRR | among |"
    yield "|---:|---:|---:|---:|---:|"
    found = (scores.recall_at_1, scores.recall_at_5, scores.recall_at_10, scores.mrr)
    yield f"| {' | '.join(f'{value:.4f}' for value in found)} | {scores.pool:,} |"


def _language(scores: LanguageScores) -> Iterator[str]:
    """Tell how well texts are foreseen, and answers chosen."""
    yield f"| {' | '.join(scores.metrics)} | tokens |"
    yield f"|{'---:|' * len(scores.metrics)}---:|"
    yield f"| {' | '.join(f'{value:.4f}' for value in scores.metrics.values())} | {scores.tokens:,} |"


def _confusions(scores: Scores) -> Iterator[str]:
    """Name the most frequent mistakes, which is what a limitation is."""
    cells = ((count, i, j) for i, row in enumerate(scores.confusion) for j, count in enumerate(row) if i != j and count)
    worst = sorted(cells, reverse=True)[:5]
    yield from ("## Limitations", "")
    if not worst:
        yield "No row of the test set was answered wrongly; that says little of other data."
    for count, i, j in worst:
        of = sum(scores.confusion[i])
        yield f"- {_cell(scores.labels[i])} taken for {_cell(scores.labels[j])}: {count:,} of {of:,}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
