"""Writes the parts of the reference that repeat the code: errors, settings, commands, routes, recipes, metrics.

Each page keeps its own prose; this replaces what stands between its two marks. Run it after a change of what it reads
(``python docs/generate.py``): a test compares the committed pages with what it makes now. It needs no server, no
database and no network.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, fields
from itertools import pairwise
from pathlib import Path
from typing import Any, cast, get_args

import click
import msgspec
from msgspec import inspect as shapes

from mofang.base.domain import errors
from mofang.base.domain.access import PERMISSIONS, Permission
from mofang.base.domain.generation import Occupancy
from mofang.base.engines.options import OPTIONS
from mofang.make.convert.formats import FORMATS
from mofang.make.evaluate.gate import PER_CLASS
from mofang.make.evaluate.report import (
    ABOUT,
    CLASSIFICATION,
    LANGUAGE,
    MULTILABEL,
    REGRESSION,
    RETRIEVAL,
    SMALLER_IS_BETTER,
)
from mofang.make.export.forms import FORMS
from mofang.make.recipe import ALGORITHMS, Recipe, recipe_schema
from mofang.make.recipe.words import describe, sections_of
from mofang.make.train.catalog import EXTRAS
from mofang.run.serve.desk import Stages
from mofang.run.serve.generate import Speech
from mofang.surface.api.access import Permit
from mofang.surface.api.app import create_app
from mofang.surface.api.platform import Platform
from mofang.surface.cli.contents import CONTENTS
from mofang.surface.cli.main import exit_codes, root
from mofang.surface.cli.verbs import Topic, Verb, shared_options
from mofang.surface.protocols.description import describe_inference
from mofang.surface.server import controlapp, telemetry
from mofang.surface.server.settings import Settings
from mofang.surface.wire.status import status_of

REFERENCE = Path(__file__).parent / "reference"
BEGIN, END = "<!-- generated -->", "<!-- end of generated -->"


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Write a Markdown table."""
    lines = [[str(cell).replace("|", r"\|").replace("\n", " ") for cell in row] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in [list(heads), ["---"] * len(heads), *lines])


def join(*parts: str) -> str:
    """Put a blank line between the parts that say something."""
    return "\n\n".join(part.strip() for part in parts if part.strip())


def first_line(text: str | None) -> str:
    """Return the first paragraph of a docstring in one line of Markdown."""
    return " ".join(inspect.cleandoc(text or "").split("\n\n")[0].split()).replace("``", "`")


def proofs(marker: str) -> dict[str, str]:
    """Return the test that carries ``@pytest.mark.<marker>(NAME, ...)``, by each of the names."""
    root, found = REFERENCE.parents[1], dict[str, str]()
    for path in sorted((root / "tests").rglob("test_*.py")):
        for test in ast.parse(path.read_text(encoding="utf-8")).body:
            for mark in test.decorator_list if isinstance(test, ast.FunctionDef) else []:
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == f"pytest.mark.{marker}":
                    where = f"`{path.relative_to(root)}::{test.name}`"
                    found |= {ast.literal_eval(name): where for name in mark.args}
    return found


# --- errors -------------------------------------------------------------------------------------------------------


def errors_block() -> str:
    """Write every code, grouped by kind."""
    overview = [
        (f"[{kind.__name__}](#{kind.__name__.lower()})", first_line(kind.__doc__), *_status(kind))
        for kind in errors.KINDS
    ]
    heads = ("kind", "what it means", "HTTP", "gRPC", "exit code")
    return join(table(heads, overview), *map(_kind, errors.KINDS))


def _kind(kind: type[errors.MofangError]) -> str:
    codes = [cls for cls in errors.catalog().values() if issubclass(cls, kind)]
    rows = []
    for cls in codes:
        http = status_of(cls).http
        other = f" (HTTP {http})" if http != status_of(kind).http else ""
        rows.append((f"`{cls.code}`{other}", first_line(cls.__doc__), cls.hint or "as the message says"))
    http, grpc, exit_code = _status(kind)
    about = f"HTTP {http}, gRPC `{grpc}`, exit code {exit_code}."
    return f"## {kind.__name__}\n\n{about}\n\n" + table(("code", "what it means", "what to do"), rows)


def _status(kind: type[errors.MofangError]) -> tuple[int, str, int]:
    status = status_of(kind)
    return status.http, status.grpc_name, status.exit_code


# --- settings -----------------------------------------------------------------------------------------------------


def settings_block() -> str:
    """Write every setting with its variable, default and reason."""
    options = {name for param in _command("up").params for name in param.opts}
    docs, rows = attribute_docs(Settings), []
    for spec in fields(Settings):
        default = "the user's data directory" if spec.default is MISSING else _default(spec.name, spec.default)
        option = f"`--{spec.name}`" if f"--{spec.name}" in options else ""
        rows.append((f"`{spec.name}`", option, f"`MOFANG_{spec.name.upper()}`", default, docs[spec.name]))
    return table(("setting", "option", "variable", "default", "what and why"), rows)


def _default(name: str, value: object) -> str:
    if name.endswith("_bytes") and isinstance(value, int):
        return f"`{value}` ({value >> 20} MiB)" if value < 1 << 30 else f"`{value}` ({value >> 30} GiB)"
    return f"`{value}`" if value != "" else "empty"


def attribute_docs(cls: type) -> dict[str, str]:
    """Return the docstring that follows each annotated attribute of ``cls``."""
    body = cast(ast.ClassDef, ast.parse(inspect.getsource(cls)).body[0]).body
    found = {}
    for statement, after in pairwise(body):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            text = after.value.value if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else ""
            found[statement.target.id] = first_line(str(text))
    return found


# --- commands -----------------------------------------------------------------------------------------------------


def commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield every command below ``command`` with its path, in order."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield (*path, name), found
            yield from commands(found, (*path, name))


def cli_block() -> str:
    """Write every command with its help, options, example and JSON."""
    shared = "## Everywhere\n\n" + _options(shared_options()) + f"\n\n{exit_codes()}"
    rows = [(stage, f"[`mofang {e.name}`](#mofang-{e.name})", e.summary) for stage, group in CONTENTS for e in group]
    contents = table(("stage", "command", "what"), rows)
    return join(contents, shared, *(_describe(path, found) for path, found in commands(root())))


def _describe(path: tuple[str, ...], command: click.Command) -> str:
    text = inspect.cleandoc(command.help or "")
    title = f"{'#' * (len(path) + 1)} mofang {' '.join(path)}"
    if isinstance(command, Topic):
        return f"{title}\n\n{text} Alone, it does `{command.usual}`."
    assert isinstance(command, Verb)
    own = [param for param in command.params if param not in command.shared]
    usage = " ".join(["mofang", *path, *command.collect_usage_pieces(click.Context(command))])
    parts = [title, f"```text\n{usage}\n```", text, _options(own), f"```bash\n{command.example}\n```"]
    return "\n\n".join([*(part for part in parts if part), f"JSON: {command.json}"])


def _options(params: Sequence[click.Parameter]) -> str:
    rows = []
    for param in params:
        if isinstance(param, click.Option):
            value = "" if param.is_flag else f" {_value_name(param)}"
            names = ", ".join(f"`{name}{value}`" for name in [*param.opts, *param.secondary_opts])
            choices = "one of " + ", ".join(param.type.choices) if isinstance(param.type, click.Choice) else ""
            told = not param.is_flag and isinstance(param.default, (str, int, float)) and param.default != ""
            default = f"default: {param.default}" if told and "[default:" not in (param.help or "") else ""
            needed = "required" if param.required else ""
            notes = "; ".join(part for part in (choices, default, needed) if part)
            what = " ".join((param.help or "").split())
            rows.append((names, f"{what} ({notes})" if notes else what))
    return table(("option", "what"), rows) if rows else ""


def _value_name(option: click.Option) -> str:
    """Name an option's value as its help does: its metavar, else its type in capitals."""
    kind = "CHOICE" if isinstance(option.type, click.Choice) else option.type.name.split()[0].upper()
    return option.metavar or kind


def _command(name: str) -> click.Command:
    return next(command for path, command in commands(root()) if path == (name,))


# --- the control API ----------------------------------------------------------------------------------------------


def routes() -> list[Any]:
    """Return the routes of the control API; routers only keep what they are handed, so nothing real is needed."""
    platform = Platform(**{spec.name: cast(Any, None) for spec in fields(Platform)} | {"version": "0", "sources": ()})
    return [route for route in create_app(platform).routes if hasattr(route, "dependant")]


def permission(route: Any) -> str:
    """Return the permission a route asks for."""
    permit = next((each.dependency for each in route.dependencies if isinstance(each.dependency, Permit)), None)
    if permit is None:
        return "none: public"
    return f"{permit.permission}, platform" if permit.everywhere else str(permit.permission)


def api_block() -> str:
    """Write every route with its permission and what it takes, by stage."""
    stages: dict[str, list[Any]] = {}
    for route in routes():
        stages.setdefault(str(route.tags[0]), []).append(route)
    parts = []
    for stage, found in stages.items():
        rows = [
            (f"`{_method(route)} {route.path}`", permission(route), _takes(route), first_line(route.endpoint.__doc__))
            for route in found
        ]
        parts.append(f"## {stage}\n\n" + table(("method and path", "permission", "takes", "what it does"), rows))
    every = get_args(Permission)
    marks = [(f"`{name}`", *("yes" if name in PERMISSIONS[role] else "" for role in PERMISSIONS)) for name in every]
    roles = "## Roles\n\n" + table(("permission", *PERMISSIONS), marks)
    return join(*parts, roles)


def _method(route: Any) -> str:
    return str(next(iter(route.methods)))


def _takes(route: Any) -> str:
    body = getattr(route.body_field, "field_info", None)
    names = list(getattr(body.annotation, "model_fields", {})) if body is not None else []
    words = [f"`{name}`" for name in names]
    return ", ".join([*words, *(f"`?{param.alias}=`" for param in route.dependant.query_params)])


# --- recipes ------------------------------------------------------------------------------------------------------


def recipe_block() -> str:
    """Write every section and key of a recipe."""
    parts = [f"## {_section_name(spec.name)}\n\n{_section(spec)}" for spec in msgspec.structs.fields(Recipe)]
    return join(*parts)


def _section_name(name: str) -> str:
    return name if name == "name" else f"[{name}]"


def _section(spec: msgspec.structs.FieldInfo) -> str:
    if spec.name == "name":
        return "The model to register the result under; at the top of the file. Required."
    if spec.name != "train":
        kind = cast(type[msgspec.Struct], spec.type)
        inner = [
            f"### [{spec.name}.{name}]\n\n{_purpose(part)}\n\n{_keys(part)}" for name, part in sections_of(kind).items()
        ]
        return join(_purpose(kind), _keys(kind), *inner)
    known = ", ".join(f"`{name}`" for name in ALGORITHMS)
    parts = [f"The key `algorithm` chooses how the model is trained: {known}. Required."]
    for name, kind in ALGORITHMS.items():
        parts.append(f"### algorithm = {json.dumps(name)}\n\n{first_line(kind.__doc__)}\n\n{_keys(kind)}")
    return "\n\n".join(parts)


def algorithms_block() -> str:
    """Write every algorithm with what it learns, by which library, and an example."""
    examples = {
        path.name: path.read_text("utf-8") for path in sorted((REFERENCE.parents[1] / "examples").glob("*.toml"))
    }
    rows, proven = [], proofs("trains")
    for name, kind in ALGORITHMS.items():
        shown = next((f"`examples/{file}`" for file, text in examples.items() if f'"{name}"' in text), "")
        extra = EXTRAS.get(kind.framework, "")
        about = re.sub(r" Needs (the extra )?`\w+`\.$", "", first_line(kind.__doc__))
        needs = f"`{extra}`" if extra else ""
        learns = ", ".join(kind.tasks)
        rows.append((f"`{name}`", about, learns, kind.framework, needs, shown, proven.get(name, "")))
    return table(("algorithm", "what it is", "learns", "by", "extra", "example", "proven by"), rows)


def _purpose(kind: type[msgspec.Struct]) -> str:
    text = first_line(kind.__doc__).split(": ", 1)[-1]
    return text[:1].upper() + text[1:]


def _keys(kind: type[msgspec.Struct]) -> str:
    info = cast(shapes.StructType, shapes.type_info(kind))
    rows = []
    plain = [field for field in info.fields if field.name not in sections_of(kind)]
    for field in sorted(plain, key=lambda field: not field.required):
        default = "required" if field.required else f"`{_toml(_default_of(field))}`"
        rows.append((f"`{field.name}`", describe(kind, field.name), default, _meaning(field.type)))
    return table(("key", "takes", "default", "what"), rows)


def _default_of(field: shapes.Field) -> object:
    made = field.default_factory
    return made() if callable(made) else field.default


def _toml(value: object) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value) if isinstance(value, (str, bool)) else str(value)


def _meaning(kind: object) -> str:
    """Return the description of a type, of the outermost that has one."""
    if isinstance(kind, shapes.Metadata):
        extra: Mapping[str, Any] = kind.extra_json_schema or {}
        return str(extra.get("description", "")) or _meaning(kind.type)
    return "; ".join(filter(None, map(_meaning, kind.types))) if isinstance(kind, shapes.UnionType) else ""


def quality_block() -> str:
    """Write every metric a gate may name, with its task and what it says."""
    tasks = {
        **dict.fromkeys(MULTILABEL, "labels"),
        **dict.fromkeys((*CLASSIFICATION, *PER_CLASS), "classes"),
        **dict.fromkeys((*(name for name in CLASSIFICATION if name in MULTILABEL), *PER_CLASS), "classes, labels"),
        **dict.fromkeys(REGRESSION, "numbers"),
        **dict.fromkeys(RETRIEVAL, "vectors"),
        **dict.fromkeys(LANGUAGE, "texts gone on with"),
    }
    rows = []
    for name, what in ABOUT.items():
        better = "smaller" if name in SMALLER_IS_BETTER else "larger"
        shown = f"`{name}[CLASS]`" if name in PER_CLASS else f"`{name}`"
        rows.append((shown, tasks.get(name, "all"), better, what))
    return table(("metric", "of", "better is", "what"), rows)


# --- metrics ------------------------------------------------------------------------------------------------------


def metrics_block() -> str:
    """Write every metric with its kind, labels and help."""
    counter = telemetry.Telemetry()
    counter.observe("E", "ok", 0.001)
    counter.hear("E", 1)
    counter.listen("E", Speech(0.1, 0.1, 0.0, 1, 0, 1))
    counter.measure("E", Stages(*[0.0] * len(Stages._fields)), 1)
    gauges = re.findall(r'\("(mofang_\w+)", "([^"]+)",', inspect.getsource(controlapp))
    text = telemetry.exposition(
        [("G", counter.counts(0, 0, {"E": 0}, {"E": Occupancy()}))], [(name, what, 0) for name, what in gauges]
    )
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    rows = []
    for name, what in re.findall(r"^# HELP (\S+) (.+)$", text, re.MULTILINE):
        labels = dict.fromkeys(re.findall(r"(\w+)=\"", "".join(re.findall(rf"^{name}\w*{{.*$", text, re.MULTILINE))))
        rows.append((f"`{name}`", kinds[name], ", ".join(f"`{label}`" for label in labels if label != "le"), what))
    bounds = "Buckets of latency, in seconds: " + ", ".join(map(str, telemetry.BUCKETS)) + "."
    bounds += " Of stages, smaller ones too: " + ", ".join(map(str, telemetry.STAGE_BUCKETS[:5])) + "."
    stages = "Stages: " + ", ".join(f"`{stage}`" for stage in Stages._fields) + "."
    return join(table(("metric", "kind", "labels", "what"), rows), stages, bounds)


# --- formats ------------------------------------------------------------------------------------------------------


def formats_block() -> str:
    """Write every format of models that is recognised, and every form that versions leave in."""
    proven = proofs("pushes")
    rows = [
        (f"`{each.name}`", each.title, each.told_by, each.needs or "nothing more", proven.get(each.name, ""))
        for each in FORMATS.values()
    ]
    out = [(f"`{each.name}`", each.title, each.of, each.needs or "nothing more") for each in FORMS.values()]
    return join(
        table(("format", "what", "told by", "needs", "proven by"), rows),
        "## Out",
        "What `mofang export` writes, as its option `--to` says; see [Take a model out](../how-to/export-a-model.md).",
        table(("form", "what", "of", "needs"), out),
    )


# --- engines ------------------------------------------------------------------------------------------------------


def engines_block() -> str:
    """Write every option of every engine."""
    rows = [
        (f"`{engine}`", f"`{name}`", option.about, ", ".join(option.words) or f"{option.low:,} to {option.high:,}",
         f"{option.usual}")
        for engine, options in OPTIONS.items() for name, option in options.items()
    ]  # fmt: skip
    return table(("engine", "option", "what", "values", "usually"), rows)


BLOCKS: Mapping[str, Callable[[], str]] = {
    "errors.md": errors_block,
    "settings.md": settings_block,
    "cli.md": cli_block,
    "api.md": api_block,
    "recipe.md": recipe_block,
    "algorithms.md": algorithms_block,
    "metrics.md": metrics_block,
    "quality.md": quality_block,
    "formats.md": formats_block,
    "engines.md": engines_block,
}


def pages() -> dict[Path, str]:
    """Return every file that is generated, or has a generated block, with the text it should have now."""
    documents = {"recipe.schema.json": recipe_schema(), "inference.openapi.json": describe_inference()}
    found = {REFERENCE / name: json.dumps(document, indent=2) + "\n" for name, document in documents.items()}
    for name, block in BLOCKS.items():
        before, begin, rest = (REFERENCE / name).read_text(encoding="utf-8").partition(BEGIN)
        _, end, after = rest.partition(END)
        found[REFERENCE / name] = f"{before}{begin}\n\n{block()}\n\n{end}{after}"
    return found


def main() -> None:
    """Bring every page up to date."""
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
