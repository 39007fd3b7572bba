"""A compression job: variants of a version, searched for within a budget, and measured against it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import msgspec

from mofang.base.domain.errors import NoVariant
from mofang.base.domain.names import VersionRef
from mofang.base.domain.registry import Artifact, Lineage, ModelVersion
from mofang.base.domain.work import Progress
from mofang.base.engines.base import Engine
from mofang.base.engines.upstreams import look_up
from mofang.make.compress.arena import arena
from mofang.make.compress.catalog import abilities
from mofang.make.compress.endpoint import UPSTREAM, Endpoint
from mofang.make.compress.pick import Wish, complaints, front, pick, price
from mofang.make.compress.propose import Can, Tried, measured
from mofang.make.compress.search import Budget, Original, Search
from mofang.make.compress.seldom import Seldom
from mofang.make.compress.step import Steps, named, packed, told
from mofang.make.compress.store import Variant
from mofang.make.compress.subject import Means, Subject
from mofang.make.compress.tuning import best, measure
from mofang.make.compress.tuning import told as told_setting
from mofang.make.evaluate.gate import parse_gate
from mofang.make.evaluate.suite import evaluate
from mofang.make.pipeline.material import Material, Order, material
from mofang.make.pipeline.outcome import Result, Spec, code
from mofang.make.prepare.feed import feed
from mofang.make.prepare.onnx import IMAGE
from mofang.make.register.store import NewVariant
from mofang.make.workshop import Workshop

_MOST_REGISTERED = 6  # of one search: the pick, and what else of the front is good enough
_TUNING_TIMES = 4  # as long as a batch is timed, the pick is tuned
_ANSWER_MS = 50.0  # within which a request is to be answered, where nobody says


def compress_version(spec: Spec, tools: Workshop, progress: Progress) -> Result:
    """Search for variants of a version, and register those that are good enough, as variants of it.

    ``spec`` is an :class:`Order`: ``max_drop``, ``max_latency_ms``, ``max_size_mb`` and ``objective`` are a
    :class:`Wish`; ``seconds`` and ``trials`` (0: any) the budget; ``dataset`` (a digest; empty: the one it was made
    from) or ``calibration`` (SHA-256 of a file that ``filename`` names) and ``metric`` what it is measured on;
    ``teacher`` whom networks learn from instead of it, ``model@version`` or ``upstream:SERVER/MODEL``. All
    candidates and their measurements are kept, whatever comes of them; NoVariant tells why none was accepted. A search
    that was interrupted goes on with the next candidate.
    """
    order = msgspec.convert(spec, Order)
    version = tools.registry.get(VersionRef.parse(order.version))
    if version.variant or version.artifact.engine != "onnx":
        what = "a variant itself" if version.variant else f"computed by engine {version.artifact.engine!r}"
        raise NoVariant(f"{version} is {what}", hint="only ONNX models can be compressed, and those only once")
    wish = Wish(order.max_drop, order.max_latency_ms, order.max_size_mb, order.objective)
    data = material(version, order, tools)
    with _searching(version, data, wish, order, tools, progress) as search:
        tried = search.run(progress)
        finals = _finals(search, tried, wish, tools, progress)
        longer = {each.steps: each for each in finals}
        tried = [longer.get(each.steps, each) for each in tried]
        try:
            picked = pick(finals or measured(tried), wish)
        except NoVariant as refusal:
            tools.variants.record(_rows(version, tried, {}, (), data, wish, tools))
            raise _refused(version, tried, refusal) from refusal
        settings = _settings(version, search.folder(picked.steps), data, wish, tools, progress)
        registered = _register(version, search, finals, data, tools, progress)
    rows = [
        replace(each, settings=settings) if each.is_picked else each
        for each in _rows(version, tried, registered, picked.steps, data, wish, tools)
    ]
    rows = tools.variants.record(rows)
    name = str(registered[picked.steps])
    progress.report("register", 1.0, f"{name} registered, the best of {len(rows)} candidates")
    return {"version": str(version), "picked": name, "variants": [asdict(row) for row in rows]}


def _key(order: Order) -> str:
    return hashlib.sha256(msgspec.json.encode(order)).hexdigest()[:12]


def _refused(version: ModelVersion, tried: Sequence[Tried], refusal: NoVariant) -> NoVariant:
    """Say why nothing was registered; if nothing could be made, why not."""
    why = "" if measured(tried) else "".join(f"; of '{each}': {each.refusal}" for each in tried[:3])
    return NoVariant(f"nothing was registered for {version}: {refusal.message}{why}", hint=refusal.hint)


@contextmanager
def _searching(
    version: ModelVersion, data: Material, wish: Wish, order: Order, tools: Workshop, progress: Progress
) -> Iterator[Search]:
    """Load the original, on its own and in the arena, and lay out a search in the job's folder."""
    steps = tools.scratch / "steps"
    steps.mkdir(parents=True, exist_ok=True)
    folder = tools.registry.folder(version, tools.scratch / "original")
    means = Means(
        original=Subject(folder, "onnx", data.network, "torch" if data.network is not None else ""),
        scratch=lambda: Path(mkdtemp(dir=steps)),
        examples=data.examples,
        calibration=data.calibration,
        unseen=data.unseen,
        checkpoints=tools.scratch / "checkpoints",
        teacher=partial(_teacher, version, tools),
        image=[each.name for each in version.artifact.signature.inputs] == [IMAGE],
        progress=Seldom(progress),
    )
    batchable = version.artifact.signature.batchable
    with tools.engine("onnx", folder) as engine, arena("onnx", folder, data.exam.rows, batchable=batchable) as grounds:
        can = replace(abilities(means), teacher=order.teacher)
        if order.teacher:
            _check_teacher(can, data, means, progress)
        progress.report("search", 0.0, f"asking {version} as it is")
        size = version.artifact.size_bytes
        original = Original("onnx", folder, size, engine, data.exam.answers(engine, progress), can)
        budget = Budget(order.seconds, order.trials, tools.timing_seconds / 3)
        yield Search(original, means, data.exam, grounds, wish, budget, tools.scratch / f"search-{_key(order)}")


def _check_teacher(can: Can, data: Material, means: Means, progress: Progress) -> None:
    """Ask the teacher one row, so that a search does not fail late; raise NoVariant if nothing would learn from it."""
    if data.examples is None or not (can.network or can.students):
        raise NoVariant(
            "a teacher is asked for, and nothing here can learn from it",
            hint="networks that were trained here learn, and networks in place of trees; leave the teacher out",
        )
    progress.report("search", 0.0, f"asking the teacher {can.teacher}")
    first = replace(data.examples, features=data.examples.features[:1], target=data.examples.target[:1])
    assert means.teacher is not None
    with means.teacher(can.teacher) as teacher:
        teacher.infer(feed(first, teacher.signature))


@contextmanager
def _teacher(version: ModelVersion, tools: Workshop, name: str) -> Iterator[Engine]:
    """Open whom to learn from: ``upstream:SERVER/MODEL``, ``model@version``, or a number or alias of the same model."""
    if name.startswith(UPSTREAM):
        server, _, model = name.removeprefix(UPSTREAM).partition("/")
        if not model:
            raise NoVariant(f"the teacher {name!r} has no model", hint=f"write {UPSTREAM}SERVER/MODEL")
        place = look_up(tools.upstreams, server)
        with closing(Endpoint(place.base_url, place.key(), model)) as endpoint:
            yield endpoint
        return
    found = tools.registry.get(VersionRef.parse(name) if "@" in name else VersionRef(version.model, name))
    with tools.folder() as root:
        folder = tools.registry.folder(found, root)
        with tools.engine(found.artifact.engine, folder) as engine:
            yield engine


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


def _settings(
    version: ModelVersion, folder: Path, data: Material, wish: Wish, tools: Workshop, progress: Progress
) -> Mapping[str, Any]:
    """Find by measuring how the pick runs best on this machine, while a request is answered within the limit."""
    row = {name: array[:1] for name, array in data.exam.rows.items()}
    goal_ms = wish.max_latency_ms or _ANSWER_MS
    seconds = _TUNING_TIMES * tools.timing_seconds
    batchable = version.artifact.signature.batchable
    found = measure("onnx", folder, row, goal_ms, seconds, progress, batchable=batchable)
    return told_setting(best(found, goal_ms), "onnx")


def _register(
    version: ModelVersion, search: Search, finals: Sequence[Tried], data: Material, tools: Workshop, progress: Progress
) -> Mapping[Steps, ModelVersion]:
    """Register all ``finals``, or none; report on the quality of each, where the truth is known."""
    made, artifacts = [], {}
    for each in finals:
        files = tools.keep(search.folder(each.steps))
        artifact = replace(version.artifact, files=files)
        lineage = Lineage(
            source="compress",
            run=version.lineage.run,
            dataset=data.dataset.digest if data.dataset else "",
            recipe=version.lineage.recipe,
            code=code("onnx", "onnxruntime", "torch"),
            parent=version.digest,
            steps=told(each.steps),
        )
        quality = each.comparison.quality
        made.append(NewVariant(named(each.steps), artifact, lineage, {quality.metric: quality.value}))
        artifacts[each.steps] = artifact
        _report(version.model, artifact, search.folder(each.steps), data, tools, progress)
    by_digest = {each.digest: each for each in tools.registry.register_variants(version, made)}
    return {steps: by_digest[artifact.digest] for steps, artifact in artifacts.items()}


def _report(model: str, artifact: Artifact, folder: Path, data: Material, tools: Workshop, progress: Progress) -> None:
    if data.dataset is None or data.exam.truth is None:
        return
    with tools.engine(artifact.engine, folder) as engine:
        report = evaluate(engine, data.exam.rows, data.exam.truth, data.exam.labels, parse_gate(""), progress)
    tools.evaluations.record(model, artifact.digest, data.dataset.digest, report)


def _rows(
    version: ModelVersion,
    tried: Sequence[Tried],
    registered: Mapping[Steps, ModelVersion],
    picked: Steps,
    data: Material,
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
            dataset=data.dataset.digest if data.dataset else "",
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
