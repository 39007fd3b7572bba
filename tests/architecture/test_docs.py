"""The documentation says what the code does: generated parts are fresh, nothing is missing, what is shown exists."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import get_args

import click
import pytest

from mofang.base.domain.access import Permission
from mofang.base.domain.errors import catalog
from mofang.base.domain.usage import Meter
from mofang.make.convert.formats import FORMATS
from mofang.make.export.forms import FORMS
from mofang.make.recipe.data import BUNDLED, SCHEMES
from mofang.make.recipe.spec import ALGORITHMS
from mofang.surface.cli.export import FORMS as TYPED_FORMS
from mofang.surface.cli.main import root
from mofang.surface.cli.verbs import Topic
from mofang.surface.server.settings import Settings

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference"
PAGES = sorted(path for path in [*ROOT.glob("*.md"), *DOCS.rglob("*.md")] if "_build" not in path.parts)
ROOMS = ("base", "make", "run", "sell", "surface")
OPERATORS = {"|", "||", "&&", ";", "&", "(", ")", ">", ">>", "<", "2>", "$"}


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_parts_are_fresh(generate: ModuleType) -> None:
    for path, text in generate.pages().items():
        assert path.read_text() == text, f"{path.name} is not what the code says: run `python docs/generate.py`"


# --- nothing is missing -------------------------------------------------------------------------------------------


def test_every_error_code_is_documented() -> None:
    page = (REFERENCE / "errors.md").read_text()
    assert [code for code in catalog() if f"| `{code}`" not in page] == []


def test_every_setting_is_documented_with_its_reason(generate: ModuleType) -> None:
    page = (REFERENCE / "settings.md").read_text()
    for name, reason in generate.attribute_docs(Settings).items():
        assert reason.endswith("."), f"setting {name} says no reason"
        assert f"`MOFANG_{name.upper()}`" in page
        assert reason in page


def test_every_command_is_documented(generate: ModuleType) -> None:
    page = (REFERENCE / "cli.md").read_text()
    missing = [
        path for path, _ in generate.commands(root()) if not re.search(f"^#+ mofang {' '.join(path)}$", page, re.M)
    ]
    assert missing == []


def test_every_route_is_documented_with_its_permission(generate: ModuleType) -> None:
    page = (REFERENCE / "api.md").read_text()
    routes = generate.routes()
    assert len(routes) > 30
    for route in routes:
        for method in route.methods:
            assert f"| `{method} {route.path}` | {generate.permission(route)} |" in page


def test_every_word_of_recipes_prices_and_permissions_is_documented() -> None:
    recipe, book, api = ((REFERENCE / name).read_text() for name in ("recipe.md", "price-book.md", "api.md"))
    assert [name for name in ALGORITHMS if f'algorithm = "{name}"' not in recipe] == []
    assert [name for name in (*SCHEMES, *BUNDLED) if not re.search(rf"`{name}[:`]", recipe)] == []
    assert [name for name in get_args(Meter) if f"`{name}`" not in book] == []
    assert [name for name in get_args(Permission) if f"| `{name}` |" not in api] == []


def test_every_algorithm_is_in_the_table_and_has_an_example() -> None:
    page = (REFERENCE / "algorithms.md").read_text()
    rows = {row.split("`")[1]: row for row in page.splitlines() if row.startswith("| `")}
    assert set(rows) == set(ALGORITHMS)
    assert [name for name, row in rows.items() if "`examples/" not in row] == []
    assert [name for name, row in rows.items() if not _is_proven(row)] == []


def test_every_format_is_in_the_table_with_what_proves_it() -> None:
    came, went = (REFERENCE / "formats.md").read_text().split("## Out")
    rows = {row.split("`")[1]: row for row in came.splitlines() if row.startswith("| `")}
    assert tuple(rows) == tuple(FORMATS)
    assert [name for name, row in rows.items() if not _is_proven(row)] == []
    assert [name for name in FORMS if f"| `{name}` |" not in went] == []
    assert tuple(FORMS) == TYPED_FORMS


def _is_proven(row: str) -> bool:
    """Whether the last cell names a test that there is."""
    path, _, test = row.rsplit("|", 2)[1].strip(" `").partition("::")
    return (ROOT / path).is_file() and f"\ndef {test}(" in (ROOT / path).read_text()


def test_every_part_of_the_client_is_documented() -> None:
    page = (REFERENCE / "python.md").read_text()
    source = (ROOT / "src/mofang/surface/sdk/client.py").read_text()
    stages = re.findall(r"self\.(\w+) = [A-Z]\w+\(wire", source)
    assert len(stages) > 10
    assert [stage for stage in stages if f"mofang.surface.sdk.{stage}\n" not in page] == []


# --- what is shown exists -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_that_are_shown_can_be_typed(page: Path) -> None:
    text = page.read_text()
    complaints = [found for line in typed_lines(text) if (found := complaint(line, whole=True))]
    complaints += [found for line in mentioned(text) if (found := complaint(line, whole=False))]
    assert complaints == []


def test_commands_in_hints_can_be_typed() -> None:
    hints = [line for cls in catalog().values() for line in mentioned(cls.hint)]
    assert len(hints) > 15
    assert [found for line in hints if (found := complaint(line, whole=True))] == []


@pytest.mark.parametrize(
    "line",
    [
        "mofang deplyo digits",
        "mofang deploy digits --wiat",
        "mofang deploy",
        "mofang deploy a b c",
        "mofang keys create --project",
        "mofang keys make --project shop",
        "mofang predict digits --protocol soap",
        "export KEY=$(mofang keys create --project shop --jsn)",
        "cat rows.json | mofang predict",
    ],
)
def test_a_command_that_cannot_be_typed_is_found(line: str) -> None:
    assert complaint(line, whole=True)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_make_targets_that_are_named_exist(page: Path) -> None:
    text = page.read_text()
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), f"link to {target}"
    for name in re.findall(r"`((?:src|docs(?!/_build)|tests|examples|proto|benchmarks)/[\w./-]*)`", text):
        assert (ROOT / name).exists(), name
    for name in re.findall(rf"`((?:{'|'.join(ROOMS)})/[\w./]*)`", text):
        assert (ROOT / "src" / "mofang" / name).exists(), name
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    typed = [line.split()[1] for line in typed_lines(text) if line.startswith("make ")]
    for name in typed + re.findall(r"`make ([a-z-]+)", text):
        assert name in targets, f"make {name}"


def typed_lines(text: str) -> Iterator[str]:
    """Yield the lines people would type: all of a ``bash`` block, those after ``$`` of a ``console`` block."""
    for kind, block in re.findall(r"^```(bash|console)\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            if kind == "bash" or line.startswith("$ "):
                yield line.removeprefix("$ ")


def mentioned(text: str) -> list[str]:
    """Return the commands in running text, between backticks."""
    return re.findall(
        r"(?<!`)`(mofang(?: [^`\n]+)?)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    )


def complaint(line: str, *, whole: bool) -> str:
    """Say why a line's use of `mofang` cannot be typed, empty if it can; ``whole``: no argument may be missing."""
    for words in _invocations(line):
        try:
            _parse(words, whole=whole)
        except click.UsageError as error:
            return f"`{line.strip()}`: {error.format_message()}"
    return ""


def _invocations(line: str) -> Iterator[list[str]]:
    """Yield the words after each `mofang` that stands where a shell expects a command."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    current: list[str] | None = None
    is_start = True
    for word in [*lexer, ";"]:
        if word in OPERATORS or set(word) <= set("();<>|&"):
            if current is not None:
                yield current
            current, is_start = None, not word.startswith((">", "<"))
        elif current is not None:
            current.append(word)
        elif is_start and word == "mofang":
            current = []
        else:
            is_start = is_start and bool(re.match(r"\w+=|time$", word))


def _parse(words: list[str], *, whole: bool) -> None:
    """Parse words as the real command would, up to the types of values; raise UsageError."""
    command: click.Command = root()
    context = click.Context(command, info_name="mofang")
    while isinstance(command, click.Group):
        if not words or words[0].startswith("-"):
            if not isinstance(command, Topic) or words[:1] == ["--help"]:
                command.make_parser(context).parse_args([*words])
                return
            words = [command.usual, *words]
        found = command.get_command(context, words[0])
        if found is None:
            raise click.UsageError(f"no command {words[0]!r}", context)
        command, words = found, words[1:]
        context = click.Context(command, info_name=command.name, parent=context)
    values, rest, _ = command.make_parser(context).parse_args([*words])
    if rest:
        raise click.UsageError(f"too many arguments: {rest}", context)
    if "--help" in words:
        return
    for param in command.params:
        given = values.get(param.name or "")
        if isinstance(param.type, click.Choice) and isinstance(given, str):
            param.type.convert(given, param, context)
        if whole and param.required and (not isinstance(given, (str, tuple, list)) or not given):
            raise click.UsageError(f"{param.human_readable_name} is missing", context)
