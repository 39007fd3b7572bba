"""`mofang push`, `models`, `versions` and `promote`: the registry."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mofang.base.domain.errors import InvalidName
from mofang.base.domain.names import now_us
from mofang.base.domain.tensors import DATATYPES, TensorSpec
from mofang.surface.cli import format, screen
from mofang.surface.cli.progress import board, follow_job
from mofang.surface.cli.session import Session, plain
from mofang.surface.cli.verbs import topic, verb
from mofang.surface.sdk.register import Wishes

if TYPE_CHECKING:
    from mofang.base.domain.registry import ModelVersion

MODEL_JSON = "name, created_at, versions (how many), newest (number), aliases (alias: number)"
_LABELS_SHOWN = 20
VERSION_JSON = (
    "model, number, digest, artifact (engine, files, signature, labels, meanings), lineage (source, run, dataset, "
    "recipe, code, parent, steps, adapter, conversion, choice), metrics, aliases, created_at"
)


_LABELS = click.option("--labels", default="", metavar="A,B,...", help="Of the classes, in their order.")
_MEANING = click.option(
    "--meaning", multiple=True, metavar="NAME=TEXT", help="What an input or output is, and in what unit."
)
_DATATYPE = click.option(
    "--datatype", multiple=True, metavar="NAME=TYPE", help="Another datatype of an input or output, e.g. x=FP64."
)
_SHAPE = click.option(
    "--shape", multiple=True, metavar="NAME=N,N,...", help="Fix open dimensions of an input, e.g. x=n,3,224,224."
)
_RENAME = click.option("--rename", multiple=True, metavar="OLD=NEW", help="Another name for an input or output.")


@verb(
    "push",
    example="mofang push encoder model.onnx",
    json="One object: job, model, version (number), digest, created (false: it was there already), signature, engine, "
    "labels, meanings, conversion (format, files, proof, why_native; null if it came as ONNX), choice "
    "(engine, why, machine, speeds; null if none was to be made).",
)
@click.argument("name")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--engine", default="", help="Load it as it is with this engine, instead of recognising its format.")
@click.option("--allow-pickle", is_flag=True, help="Open a pickle, once and locked in: it runs what its maker wrote.")
@click.option(
    "--architecture", default="", metavar="MODULE:FUNCTION",
    help="Which network bare weights are for: of a module on the server, or FILE.py:FUNCTION that is pushed along.",
)  # fmt: skip
@click.option(
    "--input-shape", default="", metavar="N,N,...", help="Of one input without the batch, where no file says it."
)
@_LABELS
@_RENAME
@_MEANING
@_DATATYPE
@_SHAPE
@click.option("--detach", is_flag=True, help="Return after the upload; checking goes on in the server.")
@click.pass_obj
def push(session: Session, /, name: str, files: tuple[Path, ...], engine: str, detach: bool, **said: Any) -> None:
    """Register a model file (or a folder, or several files) as the next version of model NAME.

    Its format is recognised by what is in it. What is no ONNX is converted, and proven to answer as before; see the
    how-to on pushing. The same bytes again are the same version: nothing new is made.
    """
    with board(session) as shown:

        def on_progress(sent: int, total: int) -> None:
            shown.show("upload", sent / max(total, 1), format.size(total), {"bytes": sent})

        wishes = Wishes(
            allow_pickle=said["allow_pickle"],
            architecture=said["architecture"],
            input_shape=_sizes(said["input_shape"], "--input-shape"),
            labels=_words(said["labels"]),
            rename=_pairs(said["rename"], "--rename", "OLD=NEW"),
            meanings=_pairs(said["meaning"], "--meaning", "NAME=TEXT"),
            datatypes=_datatypes(said["datatype"]),
            shapes=_shapes(said["shape"]),
        )
        job = session.client.register.push(name, [*files], engine=engine, wishes=wishes, on_progress=on_progress)
    if detach:
        session.answer({"job": job.id}, lambda: screen.then(f"mofang jobs logs {job.id} --follow"))
        return
    result = follow_job(session, job.id).result
    session.answer({"job": job.id, **result}, lambda: _draw_pushed(result))


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",")) if text else ()


def _sizes(text: str, option: str) -> tuple[int, ...]:
    """Read sizes of dimensions; ``n`` is one that stays open (-1)."""
    words = _words(text)
    if not all(word.isdecimal() or (word == "n" and option == "--shape") for word in words):
        raise click.BadParameter(f"{text!r} is no shape: write whole numbers, e.g. 3,224,224", param_hint=option)
    return tuple(-1 if word == "n" else int(word) for word in words)


def _shapes(texts: Sequence[str]) -> dict[str, tuple[int, ...]]:
    return {name: _sizes(text, "--shape") for name, text in _pairs(texts, "--shape", "NAME=N,N,...").items()}


def _datatypes(texts: Sequence[str]) -> dict[str, str]:
    wished = {name: text.upper() for name, text in _pairs(texts, "--datatype", "NAME=TYPE").items()}
    for text in wished.values():
        if text not in DATATYPES:
            raise click.BadParameter(
                f"{text!r} is no datatype: there are {', '.join(DATATYPES)}", param_hint="--datatype"
            )
    return wished


def _pairs(texts: Sequence[str], option: str, form: str) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts]
    for name, equals, said in pairs:
        if not (name and equals and (said or option == "--meaning")):
            raise click.BadParameter(f"{name!r} names no pair: write {form}", param_hint=option)
    return {name: said for name, _, said in pairs}


def _draw_pushed(result: Mapping[str, Any]) -> None:
    name = f"{result['model']}@{result['version']}"
    screen.heading(f"registered {name}" if result.get("created", True) else f"{name} is the same: nothing new was made")
    signature, meanings = result.get("signature") or {}, result.get("meanings") or {}
    screen.fields(
        [
            ("digest", result["digest"]),
            ("takes", _tensors((_spec(each) for each in signature.get("inputs", ())), meanings)),
            ("gives", _tensors((_spec(each) for each in signature.get("outputs", ())), meanings)),
            ("labels", _labels(result.get("labels", ()))),
            *_choice(result.get("choice")),
            *_conversion(result.get("conversion")),
        ]
    )
    screen.then(f"mofang deploy {name}", f"mofang versions show {name}")


def _labels(labels: Sequence[str]) -> str:
    shown = ", ".join(labels[:_LABELS_SHOWN])
    return shown if len(labels) <= _LABELS_SHOWN else f"{shown}, and {len(labels) - _LABELS_SHOWN} more"


def _choice(choice: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """Say which engine computes it, why, and what was measured."""
    if choice is None:
        return []
    lines = [("chosen", f"{choice['engine']}: {choice['why']}")]
    told = [f"{engine}: {speed['one']:,.0f} tokens/s to one stream, {speed['several']:,.0f} to {speed['streams']}"
            for engine, speed in choice["speeds"].items()]  # fmt: skip
    if told:
        lines.append(("measured", "\n".join([*told, f"on {choice['machine']}"])))
    return lines


def _conversion(conversion: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """Say what the model was, and how it is known to answer as it did."""
    if conversion is None:
        return []
    proof = conversion["proof"]
    lines = [("was", conversion["format"])]
    if proof:
        tried = "; ".join(proof["trials"])
        alike = f"{proof['rows']:,} rows answered alike, largest difference {proof['max_difference']:.1e}"
        lines.append(("proof", f"{alike}\n{tried}" if tried else alike))
    if conversion["why_native"]:
        lines.append(("no ONNX", conversion["why_native"]))
    return lines


def _spec(told: Mapping[str, Any]) -> TensorSpec:
    return TensorSpec(told["name"], told["datatype"], tuple(told["shape"]))


def _tensors(specs: Iterable[TensorSpec], meanings: Mapping[str, str]) -> str:
    """Return one line for each, with what it means beside it."""
    return "\n".join(f"{spec}  {meanings.get(spec.name, '')}".rstrip() for spec in specs)


models = topic("models", "Models: what they are, and what they take and give.", usual="list")


@models.verb("list", example="mofang models list", json=f"{{items}}, each: {MODEL_JSON}.")
@click.pass_obj
def list_models(session: Session) -> None:
    """List models by name."""
    found = session.client.register.list_models()
    now = now_us()
    rows = [(m.name, m.versions, m.newest, _aliases(m.aliases), format.ago(m.created_at, now)) for m in found]
    heads = ("model", ">versions", ">newest", "aliases", "created")
    empty = "no models yet; `mofang train RECIPE` or `mofang push NAME FILE` makes one"
    session.answer_list(found, lambda: screen.table(heads, rows, empty=empty))


@models.verb(
    "show", example="mofang models show digits", json=f"One object: {MODEL_JSON}; version: its newest version."
)
@click.argument("name")
@click.pass_obj
def show_model(session: Session, name: str) -> None:
    """Show a model: its versions' count, aliases, and the signature of the newest version."""
    model = session.client.register.get_model(name)
    newest = session.client.register.get_version(name)

    def draw() -> None:
        screen.heading(f"model {model.name}: {model.versions} version{'s' if model.versions != 1 else ''}")
        screen.fields([("aliases", _aliases(model.aliases)), ("newest", str(newest)), *_about(newest)])
        screen.then(f"mofang versions list {name}", f"mofang deploy {newest}")

    session.answer({**plain(model), "version": plain(newest)}, draw)


versions = topic(
    "versions", "Versions of a model: immutable, numbered, named by a digest over every byte.", usual="list"
)


@versions.verb("list", example="mofang versions list digits", json=f"{{items}}, each: {VERSION_JSON}.")
@click.argument("model")
@click.pass_obj
def list_versions(session: Session, model: str) -> None:
    """List the versions of a model, newest first."""
    found = session.client.register.list_versions(model)
    now = now_us()
    rows = [
        (v.number, format.short_digest(v.digest), v.artifact.engine, format.size(v.artifact.size_bytes),
         f"{v.metrics['accuracy']:.4f}" if "accuracy" in v.metrics else "-", v.lineage.source, ", ".join(v.aliases),
         format.ago(v.created_at, now))
        for v in found
    ]  # fmt: skip
    heads = (">version", "digest", "engine", ">size", ">accuracy", "source", "aliases", "created")
    session.answer_list(found, lambda: screen.table(heads, rows))


@versions.verb("show", example="mofang versions show digits@1", json=f"One object: {VERSION_JSON}.")
@click.argument("version", metavar="MODEL@VERSION")
@click.pass_obj
def show_version(session: Session, version: str) -> None:
    """Show one version (a number, an alias, or neither: the newest): digest, lineage, metrics, files."""
    found = session.client.register.get_version(version)

    def draw() -> None:
        screen.heading(f"version {found}")
        screen.fields([("aliases", ", ".join(found.aliases)), *_about(found)])
        screen.say()
        rows = [(f"  {f.path}", format.size(f.size_bytes), f.sha256[:12]) for f in found.artifact.files]
        screen.table(("  file", ">size", "sha256"), rows)
        promote = [] if found.variant else [f"mofang promote {found} champion"]
        screen.then(f"mofang deploy {found}", f"mofang evaluate {found}", *promote)

    session.answer(found, draw)


@versions.verb("find", example="mofang versions find 3f9ab1c2d4e5", json=f"{{items}}, each: {VERSION_JSON}.")
@click.argument("digest")
@click.pass_obj
def find_versions(session: Session, digest: str) -> None:
    """List what has a digest, as usage and invoices name it (or as it begins), and the versions it was made of."""
    found = session.client.register.find_versions(digest)
    rows = [
        (str(v), format.short_digest(v.digest), format.short_digest(v.lineage.parent), v.lineage.steps or "-",
         format.short_digest(v.lineage.adapter))
        for v in found
    ]  # fmt: skip
    heads = ("version", "digest", "made from", "by", "adapter")
    session.answer_list(found, lambda: screen.table(heads, rows, empty="nothing has this digest"))


@versions.verb(
    "edit",
    example="mofang versions edit digits@1 --labels zero,one",
    json="One object: job, model, version (number), digest, created (false: it was there already), signature, engine, "
    "labels, meanings, conversion.",
)
@click.argument("version", metavar="MODEL@VERSION")
@_LABELS
@_RENAME
@_MEANING
@_DATATYPE
@_SHAPE
@click.pass_obj
def edit_version(session: Session, /, version: str, labels: str, **said: tuple[str, ...]) -> None:
    """Make a version with another signature of one that there is: other labels, or other names, meanings, datatypes or
    shapes of inputs and outputs.

    The one that there is stays as it was: versions never change.
    """
    job = session.client.register.edit(
        version,
        labels=_words(labels),
        rename=_pairs(said["rename"], "--rename", "OLD=NEW"),
        meanings=_pairs(said["meaning"], "--meaning", "NAME=TEXT"),
        datatypes=_datatypes(said["datatype"]),
        shapes=_shapes(said["shape"]),
    )
    result = follow_job(session, job.id).result
    session.answer({"job": job.id, **result}, lambda: _draw_pushed(result))


@verb(
    "promote",
    example="mofang promote digits@2 champion",
    json=f"One object, the version: {VERSION_JSON}.",
)
@click.argument("version", metavar="MODEL@VERSION")
@click.argument("alias", default="champion")
@click.option("--force", is_flag=True, help="Even if it did not pass its newest gate.")
@click.pass_obj
def promote(session: Session, version: str, alias: str, force: bool) -> None:
    """Let an alias (champion, if left out) name a version that passed its gate; what is deployed stays as it is."""
    wanted = session.client.register.get_version(version)
    model = wanted.model
    if wanted.variant:
        raise InvalidName(
            f"an alias names a version, and {wanted} is a variant of one",
            hint=f"deploy it: `mofang deploy NAME {wanted}`",
        )
    found = session.client.register.promote(model, wanted.number, alias, force=force)

    def draw() -> None:
        screen.heading(f"{model}@{alias} is now {found}")
        screen.fields([("digest", found.digest), ("aliases", ", ".join(found.aliases))])
        screen.then(f"mofang deploy {model}@{alias}")

    session.answer(found, draw)


def _about(version: ModelVersion) -> list[tuple[str, str]]:
    artifact, lineage = version.artifact, version.lineage
    return [
        ("digest", version.digest),
        ("engine", f"{artifact.engine}, {format.size(artifact.size_bytes)}"),
        ("takes", _tensors(artifact.signature.inputs, artifact.meanings)),
        ("gives", _tensors(artifact.signature.outputs, artifact.meanings)),
        ("labels", _labels(artifact.labels)),
        *_choice(None if lineage.choice is None else asdict(lineage.choice)),
        *_conversion(None if lineage.conversion is None else asdict(lineage.conversion)),
        ("metrics", ", ".join(f"{name} {value:.4f}" for name, value in version.metrics.items())),
        ("from", " ".join(part for part in (lineage.source, lineage.run) if part)),
        ("data set", lineage.dataset and format.short_digest(lineage.dataset)),
        ("recipe", lineage.recipe and format.short_digest(lineage.recipe)),
        ("parent", lineage.parent and format.short_digest(lineage.parent)),
        ("made by", lineage.steps),
        ("adapter", lineage.adapter and format.short_digest(lineage.adapter)),
        ("code", lineage.code),
        ("created", format.moment(version.created_at)),
    ]


def _aliases(aliases: Mapping[str, int]) -> str:
    return ", ".join(f"{alias} -> {number}" for alias, number in aliases.items())
