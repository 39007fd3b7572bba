"""A compression job: variants of a version, searched for within a budget, and measured against it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol

import msgspec

from mofang.base.domain.errors import NoVariant
from mofang.base.domain.names import VersionRef
from mofang.base.domain.registry import Lineage, ModelVersion
from mofang.base.domain.work import Progress
from mofang.make.compress.pick import Wish, complaints, front, pick, price
from mofang.make.compress.propose import Tried, measured
from mofang.make.compress.search import Search
from mofang.make.compress.step import Steps, named, packed, told
from mofang.make.compress.store import Variant
from mofang.make.evaluate.report import Report
from mofang.make.pipeline.material import Order
from mofang.make.pipeline.outcome import Result, Spec, code
from mofang.make.pipeline.rows import Rows
from mofang.make.pipeline.texts import Texts
from mofang.make.register.store import NewVariant
from mofang.make.workshop import Workshop

_MOST_REGISTERED = 6  # of one search: the pick, and what else of the front is good enough


def compress_version(spec: Spec, tools: Workshop, progress: Progress) -> Result:
    """Search for variants of a version, and register those that are good enough, as variants of it.

    ``spec`` is an :class:`Order`: ``max_drop``, ``max_latency_ms``, ``max_size_mb`` and ``objective`` are a
    :class:`Wish`; ``seconds`` and ``trials`` (0: any) the budget; ``dataset`` (a digest; empty: the one it was made
    from) or ``calibration`` (SHA-256 of a file that ``filename`` names, of texts for a language model) and ``metric``
    what it is measured on; ``teacher`` whom networks learn from instead of it, ``model@version`` or
    ``upstream:SERVER/MODEL``. All candidates and their measurements are kept, whatever comes of them; NoVariant tells
    why none was accepted. A search that was interrupted goes on with the next candidate.
    """
    order = msgspec.convert(spec, Order)
    version = tools.registry.get(VersionRef.parse(order.version))
    case = _case(version, order, tools)
    wish = Wish(order.max_drop, order.max_latency_ms, order.max_size_mb, order.objective)
    with case.searching(wish, tools.scratch / f"search-{_key(order)}", progress) as search:
        tried = search.run(progress)
        finals = _finals(search, tried, wish, tools, progress)
        longer = {each.steps: each for each in finals}
        tried = [longer.get(each.steps, each) for each in tried]
        try:
            picked = pick(finals or measured(tried), wish)
        except NoVariant as refusal:
            tools.variants.record(_rows(version, tried, {}, (), case, wish, tools))
            raise _refused(version, tried, refusal) from refusal
        settings = case.settings(search.folder(picked.steps), wish, progress)
        registered = _register(version, search, finals, case, tools, progress)
    rows = [
        replace(each, settings=settings) if each.is_picked else each
        for each in _rows(version, tried, registered, picked.steps, case, wish, tools)
    ]
    rows = tools.variants.record(rows)
    name = str(registered[picked.steps])
    progress.report("register", 1.0, f"{name} registered, the best of {len(rows)} candidates")
    return {"version": str(version), "picked": name, "variants": [asdict(row) for row in rows]}


class Case(Protocol):
    """A version that is compressed, with what is known of it."""

    dataset: str  # digest of what quality is measured on; empty if it is a sample

    @property
    def packages(self) -> Sequence[str]:
        """Whose releases are recorded."""
        ...

    def searching(self, wish: Wish, folder: Path, progress: Progress) -> AbstractContextManager[Search]:
        """Load the original and lay out a search in ``folder``."""
        ...

    def settings(self, folder: Path, wish: Wish, progress: Progress) -> Mapping[str, Any]:
        """Find by measuring how the pick in ``folder`` runs best; empty if there is nothing to find."""
        ...

    def report(self, folder: Path, progress: Progress) -> Report | None:
        """Evaluate the variant in ``folder`` on the dataset; None if there is none."""
        ...


def _case(version: ModelVersion, order: Order, tools: Workshop) -> Case:
    if version.variant:
        raise NoVariant(f"{version} is a variant itself", hint="compress the version it was made from")
    if version.artifact.engine == "onnx":
        return Rows(version, order, tools)
    if any(entry.path.endswith(".gguf") for entry in version.artifact.files):
        return Texts(version, order, tools)
    raise NoVariant(
        f"{version} is computed by engine {version.artifact.engine!r}",
        hint="what can be compressed are ONNX models, and language models in GGUF files",
    )


def _key(order: Order) -> str:
    return hashlib.sha256(msgspec.json.encode(order)).hexdigest()[:12]


def _refused(version: ModelVersion, tried: Sequence[Tried], refusal: NoVariant) -> NoVariant:
    """Say why nothing was registered; if nothing could be made, why not."""
    why = "" if measured(tried) else "".join(f"; of '{each}': {each.refusal}" for each in tried[:3])
    return NoVariant(f"nothing was registered for {version}: {refusal.message}{why}", hint=refusal.hint)


def _finals(search: Search, tried: Sequence[Tried], wish: Wish, tools: Workshop, progress: Progress) -> list[Tried]:
    """Return the best of the front that are good enough, timed once more, and longer."""
    candidates = measured(tried)
    best = [candidates[at] for at in front([each.comparison for each in candidates])]
    good = [each for each in best if not complaints(each.comparison, wish)]
    finals = []
    for each in sorted(good, key=lambda each: price(each.comparison, wish.objective))[:_MOST_REGISTERED]:
        progress.report("search", 1.0, f"timing again: {told(each.steps)}")
        finals.append(Tried(each.steps, search.again(each.steps, tools.timing_seconds, progress)))
    return finals


def _register(
    version: ModelVersion, search: Search, finals: Sequence[Tried], case: Case, tools: Workshop, progress: Progress
) -> Mapping[Steps, ModelVersion]:
    """Register all ``finals``, or none; report on the quality of each, where the truth is known."""
    made, artifacts = [], {}
    for each in finals:
        files = tools.keep(search.folder(each.steps))
        artifact = replace(version.artifact, files=files)
        lineage = Lineage(
            source="compress",
            run=version.lineage.run,
            dataset=case.dataset,
            recipe=version.lineage.recipe,
            code=code(*case.packages),
            parent=version.digest,
            steps=told(each.steps),
        )
        quality = each.comparison.quality
        made.append(NewVariant(named(each.steps), artifact, lineage, {quality.metric: quality.value}))
        artifacts[each.steps] = artifact
        report = case.report(search.folder(each.steps), progress)
        if report is not None:
            tools.evaluations.record(version.model, artifact.digest, case.dataset, report)
    by_digest = {each.digest: each for each in tools.registry.register_variants(version, made)}
    return {steps: by_digest[artifact.digest] for steps, artifact in artifacts.items()}


def _rows(
    version: ModelVersion,
    tried: Sequence[Tried],
    registered: Mapping[Steps, ModelVersion],
    picked: Steps,
    case: Case,
    wish: Wish,
    tools: Workshop,
) -> list[Variant]:
    """Return what is kept of every candidate."""
    candidates = measured(tried)
    best = {candidates[at].steps for at in front([each.comparison for each in candidates])}

    def refusal(each: Tried) -> str:
        if each.steps in registered:
            return ""
        if each.found is None:
            return each.refusal
        return "; ".join(complaints(each.found, wish)) or "another is better"

    return [
        Variant(
            model=version.model,
            parent=version.digest,
            technique=registered[each.steps].variant if each.steps in registered else named(each.steps),
            digest=registered[each.steps].digest if each.steps in registered else "",
            dataset=case.dataset,
            comparison=each.found,
            refusal=refusal(each),
            version=version.number if each.steps in registered else 0,
            job=tools.job,
            steps=packed(each.steps),
            told=told(each.steps),
            is_front=each.steps in best,
            is_picked=bool(registered) and each.steps == picked,
        )
        for each in tried
    ]
