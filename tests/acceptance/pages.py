"""Types the commands of a page of the documentation, in their order, in one shell, and tells what they printed."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(r"^```(bash|console|toml)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_MARK = "=== ended:"
_VARYING = (
    (re.compile(r"\b[a-z]{2,4}_[0-9a-z]{26}\b"), "ID"),
    (re.compile(r"\b[0-9a-f]{64}\b|\b[0-9a-f]{12}\b"), "HASH"),
    (re.compile(r"\b20\d\d-\d\d-\d\d[ T]\d\d:\d\d(:\d\d)?Z?"), "AT"),
    (re.compile(r"\b[0-9A-Za-z]{10}\b(?=  127\.0\.0\.1)"), "KEY"),
    (re.compile(r"\b\d+ (?=records, none|heads agree)"), "SOME "),  # folds and anchors come when they come
)


@dataclass(frozen=True, slots=True)
class Step:
    """A command of a page, and what it printed when the page was written (None: the page does not show it)."""

    command: str
    shown: str | None

    @property
    def fails(self) -> bool:
        """Whether the page shows that it fails."""
        return (self.shown or "").startswith("error[")


def steps_of(page: str) -> list[Step]:
    """Return the commands of a page; a TOML block is written to the file that the text before it names last."""
    found: list[Step] = []
    for block in _BLOCK.finditer(page):
        kind, content = block.groups()
        if kind == "toml":
            name = re.findall(r"`(\w+\.toml)`", page[: block.start()])[-1]
            found.append(Step(f"cat > {name} <<'END'\n{content}END", None))
        elif kind == "bash":
            found += [Step(line, None) for line in content.splitlines() if line]
        else:
            for command, shown in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", content, re.MULTILINE):
                found.append(Step(command, shown))
    return found


def type_in(steps: list[Step], folder: Path, environ: Mapping[str, str]) -> list[tuple[str, int]]:
    """Run all ``steps`` in one shell in ``folder``; return what each printed, and its exit status."""
    lines = [f"{step.command}\nprintf '{_MARK} %s\\n' $?" for step in steps]
    done = subprocess.run(
        ["bash", "-c", "exec 2>&1\n" + "\n".join(lines)],
        cwd=folder,
        env={**os.environ, **environ},
        stdout=subprocess.PIPE,
        text=True,
        timeout=300,
    )
    pieces = re.split(rf"{_MARK} (\d+)\n", done.stdout)
    return [(pieces[number], int(pieces[number + 1])) for number in range(0, len(pieces) - 1, 2)]


def settled(text: str) -> str:
    """Return ``text`` without what differs from run to run: ids, hashes, times; and with single spaces."""
    for pattern, word in _VARYING:
        text = pattern.sub(word, text)
    return "\n".join(" ".join(line.split()) for line in text.strip().splitlines())
