"""Text to Recipe: everything is checked, and every complaint names the line, what was found and what would do.

Called before a job is made, and again by the job. It knows the types of ``spec.py`` but no algorithm and no data.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Any, NoReturn, TypeVar

import msgspec

from mofang.base.domain.errors import Invalid, InvalidRecipe
from mofang.base.domain.names import check_name
from mofang.make.recipe.data import BUNDLED, PROSE, REMOTE, SCHEMES, Prepare
from mofang.make.recipe.lines import locate
from mofang.make.recipe.search import Search, misfit
from mofang.make.recipe.spec import (
    ALGORITHMS,
    Convert,
    Evaluate,
    Recipe,
    Register,
    algorithms,
)
from mofang.make.recipe.words import describe, listed, nearest, sections_of, shown

MAX_BYTES = 32_768
MAX_LINES = 1_000
SECTIONS = tuple(name for name in Recipe.__struct_fields__ if name != "name")
_Section = TypeVar("_Section", bound=msgspec.Struct)


def parse_recipe(text: str, filename: str, *, check_gate: Callable[[str], object] | None = None) -> Recipe:
    """Parse and check a whole recipe; raise InvalidRecipe naming line, key and the nearest valid word.

    ``filename`` is only named in messages. ``check_gate`` reads a gate and raises InvalidGate: the stage that knows
    gates comes later, so it is handed in.
    """
    return _Parser(text, filename).recipe(check_gate)


def recipe_digest(text: str) -> str:
    """Return ``sha256:<hex>`` of the recipe's text."""
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def recipe_schema() -> dict[str, Any]:
    """Return the JSON schema of a recipe (TOML and JSON have the same shape)."""
    return msgspec.json.schema(Recipe)


class _Parser:
    def __init__(self, text: str, filename: str) -> None:
        self._filename = filename
        if len(text) > MAX_BYTES or text.count("\n") > MAX_LINES:
            raise InvalidRecipe(f"{filename} is too long: a recipe has at most {MAX_LINES} lines and {MAX_BYTES} bytes")
        try:
            self._document = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise InvalidRecipe(_syntax(str(error), text, filename), hint="a recipe is written in TOML 1.0") from error
        except RecursionError:
            raise InvalidRecipe(f"{filename} is nested too deeply") from None
        self._lines = locate(text)

    def recipe(self, check_gate: Callable[[str], object] | None) -> Recipe:
        """Check section by section and return the whole."""
        self._check_sections()
        recipe = Recipe(
            name=self._name(),
            prepare=self._section("prepare", Prepare),
            train=self._train(),
            search=self._section("search", Search),
            convert=self._section("convert", Convert),
            evaluate=self._section("evaluate", Evaluate),
            register=self._section("register", Register),
        )
        if recipe.prepare.task == "auto" and recipe.train.tasks == ("generation",):  # nothing is left to guess
            recipe = msgspec.structs.replace(recipe, prepare=msgspec.structs.replace(recipe.prepare, task="generation"))
        self._check_prepare(recipe.prepare)
        task = recipe.prepare.task if isinstance(recipe.prepare.target, str) else "multilabel"
        if task not in ("auto", *recipe.train.tasks):
            self._fail(
                ("train", "algorithm"),
                f"[train] algorithm {recipe.train.algorithm!r} is for {listed(recipe.train.tasks)},"
                f" but [prepare] task is {task!r}",
                hint=f"for {task}: {listed(algorithms(task))}",
            )
        if recipe.convert.format == "skops" and recipe.prepare.normalise.method != "none":
            self._fail(
                ("convert", "format"),
                "[convert] format 'skops' cannot carry [prepare.normalise]",
                hint="leave one of them out: models of scikit-learn scale by themselves",
            )
        untried = misfit(recipe.search.space, self._document["train"], type(recipe.train))
        if untried is not None:
            self._fail(("search", "space", untried[0]), f"[search.space] {untried[0]} {untried[1]}")
        complaint = recipe.train.complaint(task)
        if complaint is not None:
            self._fail(("train", complaint[0]), f"[train] {complaint[0]} {complaint[1]}")
        if recipe.convert.format == "skops" and recipe.train.made_by != "sklearn":
            self._fail(
                ("convert", "format"),
                f"[convert] format 'skops' is for models of scikit-learn, not for {recipe.train.algorithm!r}",
                hint="leave it out: the model is served as ONNX",
            )
        if recipe.register.alias:
            self._checked(("register", "alias"), lambda: check_name("version", recipe.register.alias))
        if recipe.evaluate.gate and check_gate is not None:
            self._checked(("evaluate", "gate"), lambda: check_gate(recipe.evaluate.gate))
        return recipe

    def _check_sections(self) -> None:
        for name in self._document:
            if name not in Recipe.__struct_fields__:
                kind = "section" if isinstance(self._document[name], dict) else "key"
                advice = nearest(name, Recipe.__struct_fields__)
                self._fail((name,), f"a recipe has no {kind} {name!r}; {advice}")
        for name in ("name", "prepare", "train"):
            if name not in self._document:
                wanted = "a name: name = 'digits'" if name == "name" else f"a section [{name}]"
                self._fail((name,), f"the recipe needs {wanted}")
        for name in SECTIONS:
            if not isinstance(self._document.get(name, {}), dict):
                self._fail((name,), f"{name!r} must be a section: write [{name}] in a line of its own")

    def _name(self) -> str:
        name = self._document["name"]
        if not isinstance(name, str):
            self._fail(("name",), f"name must be a text, got {shown(name)}")
        self._checked(("name",), lambda: check_name("model", name))
        return name

    def _train(self) -> Any:
        table = self._document["train"]
        if "algorithm" not in table:
            self._fail(("train",), f"[train] needs 'algorithm': {listed(ALGORITHMS)}")
        algorithm = table["algorithm"]
        if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
            self._fail(
                ("train", "algorithm"),
                f"[train] algorithm {shown(algorithm)} is unknown; {nearest(algorithm, ALGORITHMS)}",
                hint=f"known algorithms: {listed(ALGORITHMS)}",
            )
        return self._section("train", ALGORITHMS[algorithm])

    def _section(self, name: str, kind: type[_Section]) -> _Section:
        table: Mapping[str, Any] = self._document.get(name, {})
        self._check_keys((name,), kind, table)
        try:
            return msgspec.convert(table, kind)
        except msgspec.ValidationError as error:
            self._complain((name,), kind, table, error)

    def _check_keys(self, path: tuple[str, ...], kind: type[msgspec.Struct], table: Mapping[str, Any]) -> None:
        """Complain of keys that ``kind`` does not have, in the section and in those inside it."""
        section, tag, inner = ".".join(path), kind.__struct_config__.tag_field, sections_of(kind)
        keys = (*([tag] if tag else []), *kind.__struct_fields__)
        for key, value in table.items():
            if key not in keys:
                message, hint = _no_key(section, key, keys, table), f"[{section}] takes {listed(keys)}"
                self._fail((*path, key), f"[{section}] {message}", hint=hint)
            if key in inner:
                if not isinstance(value, dict):
                    message = f"[{section}] {key} must be a section: write [{section}.{key}] in a line of its own"
                    self._fail((*path, key), message)
                self._check_keys((*path, key), inner[key], value)

    def _complain(
        self,
        path: tuple[str, ...],
        kind: type[msgspec.Struct],
        table: Mapping[str, Any],
        error: msgspec.ValidationError,
    ) -> NoReturn:
        place = re.search(r"`\$\.([\w.]+)", str(error))
        *outer, key = place[1].split(".") if place else [""]
        for name in outer:
            path, kind, table = (*path, name), sections_of(kind)[name], table[name]
        section = ".".join(path)
        missing = re.search(r"missing required field `(\w+)`", str(error))
        if missing:
            self._fail(path, f"[{section}] needs {missing[1]!r}")
        if not key:
            self._fail(path, f"[{section}]: {error}")
        self._fail((*path, key), f"[{section}] {key} must be {describe(kind, key)}, got {shown(table[key])}")

    def _check_prepare(self, prepare: Prepare) -> None:
        for source in prepare.sources:
            self._check_source(source, prepare.task)
        if len(prepare.size) == 1:
            self._fail(("prepare", "size"), "[prepare] size must be height and width, e.g. [64, 64]")
        if (prepare.split.by == "rows") != (not prepare.split.column):
            problem = "needs 'column'" if not prepare.split.column else "has a 'column', but does not say by what"
            hint = 'by = "time" or by = "group", and column = the name of the column'
            self._fail(("prepare", "split"), f"[prepare.split] {problem}", hint=hint)
        if not isinstance(prepare.target, str) and prepare.task not in ("auto", "multilabel"):
            self._fail(
                ("prepare", "task"),
                f"[prepare] task {prepare.task!r} has one target, but {len(prepare.target)} are listed",
                hint="leave task out: several targets are labels that a row has or has not",
            )
        given = prepare.normalise
        if len(given.mean) != len(given.deviation):
            self._fail(
                ("prepare", "normalise"),
                f"[prepare.normalise] has {len(given.mean)} means and {len(given.deviation)} deviations",
                hint="give one of each for every channel or column, or neither: they are measured then",
            )
        if given.mean and given.method != "standard":
            self._fail(("prepare", "normalise"), "[prepare.normalise] mean and deviation need method = 'standard'")

    def _check_source(self, source: str, task: str) -> None:
        scheme, colon, rest = source.partition(":")
        where = ("prepare", "source")
        if not colon or not rest:
            self._fail(where, f"[prepare] source {shown(source)} must be SCHEME:NAME, e.g. 'sklearn:digits'")
        if scheme not in SCHEMES:
            self._fail(where, f"[prepare] source {shown(source)}: {scheme!r} is unknown; {nearest(scheme, SCHEMES)}")
        if scheme == "sklearn" and rest not in BUNDLED:
            self._fail(where, f"[prepare] source {shown(source)}: {rest!r} is unknown; {nearest(rest, BUNDLED)}")
        if scheme in REMOTE:
            host, slash, path = rest.removeprefix("//").partition("/")
            if not (rest.startswith("//") and host and slash and path) or "@" in host:
                wanted = f"{scheme}://{'BUCKET/KEY' if scheme == 's3' else 'HOST/PATH, without a password'}"
                self._fail(where, f"[prepare] source {shown(source)} must be {wanted}")
        if task == "generation" and scheme not in PROSE:
            hint = f"it learns from {listed(f'{each}:' for each in PROSE[:3])}"
            self._fail(where, f"[prepare] source {shown(source)}: a language model cannot learn from it", hint=hint)
        elif scheme not in ("sklearn", *REMOTE) and not PurePosixPath(rest).is_absolute():
            self._fail(
                where, f"[prepare] source {shown(source)} must name an absolute path", hint="the server reads it"
            )

    def _checked(self, path: tuple[str, ...], check: Callable[[], object]) -> None:
        try:
            check()
        except Invalid as error:
            where = f"[{path[0]}] {path[1]}" if len(path) > 1 else path[0]
            self._fail(path, f"{where}: {error.message}", hint=error.hint)

    def _fail(self, path: tuple[str, ...], message: str, *, hint: str | None = None) -> NoReturn:
        line = self._lines.get(path)
        where = self._filename if line is None else f"{self._filename} line {line}"
        raise InvalidRecipe(f"{where}: {message}", hint=hint) from None


def _no_key(section: str, key: str, keys: tuple[str, ...], table: Mapping[str, Any]) -> str:
    others = [name for name, kind in ALGORITHMS.items() if section == "train" and key in kind.__struct_fields__]
    if others:
        return f"algorithm {table['algorithm']!r} has no key {key!r}; {listed(others, 'and')} takes it"
    return f"has no key {key!r}; {nearest(key, keys)}"


def _syntax(message: str, text: str, filename: str) -> str:
    place = re.search(r" \(at line (\d+), column (\d+)\)$", message)
    line, column = (place[1], place[2]) if place else (str(max(text.count("\n"), 1)), "end")
    reason = re.sub(r" \(at .*\)$", "", message)
    return f"{filename} line {line}, column {column}: {reason[:1].lower()}{reason[1:]}"
