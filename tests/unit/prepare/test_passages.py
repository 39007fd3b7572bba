"""Prompts and completions: what is read, what is left out, and what is said of files that hold something else."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mofang.base.domain.errors import InvalidDataset
from mofang.base.storage.blobs import DiskBlobs
from mofang.make.prepare.dataset import Dataset, load_examples
from mofang.make.prepare.encode import strings
from mofang.make.recipe import Splitting

Prepared = Callable[..., Dataset]


def lines(path: Path, *rows: object) -> str:
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return f"jsonl:{path}"


def texts(blobs: DiskBlobs, dataset: Dataset) -> set[tuple[str, ...]]:
    found: set[tuple[str, ...]] = set()
    for split in ("train", "test"):
        examples = load_examples(blobs, dataset, split=split)  # type: ignore[arg-type]
        columns = [
            strings(column, examples.features[:, index], examples.texts)
            for index, column in enumerate(examples.schema.columns)
        ]
        found |= set(zip(*columns, strict=True))
    return found


def test_texts_stay_as_they_were_written(prepared: Prepared, blobs: DiskBlobs, tmp_path: Path) -> None:
    rows = [{"prompt": f"Say {n}. ", "completion": f" {n}\n"} for n in range(20)] + [{"prompt": "?", "completion": " "}]
    dataset = prepared(lines(tmp_path / "rows.jsonl", *rows), task="generation")
    assert dataset.task == "generation"
    assert dict(dataset.removed) == {"no completion": 1}
    assert texts(blobs, dataset) == {(f"Say {n}. ", f" {n}\n") for n in range(20)}


def test_of_a_conversation_the_last_message_is_learned(prepared: Prepared, blobs: DiskBlobs, tmp_path: Path) -> None:
    rows = [[{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": f"{n}!"}] for n in range(20)]
    dataset = prepared(lines(tmp_path / "chats.jsonl", *({"messages": row} for row in rows)), task="generation")
    assert dataset.schema.names == ("messages", "completion")
    assert texts(blobs, dataset) == {(json.dumps(row[:-1]), row[-1]["content"]) for row in rows}


def test_paragraphs_of_one_file_stay_on_one_side(prepared: Prepared, blobs: DiskBlobs, tmp_path: Path) -> None:
    for name in "abcdefgh":
        (tmp_path / name).mkdir()
        (tmp_path / name / "page.txt").write_text("\n\n".join(f"{name} says\n{n}" for n in range(5)))
    by_file = Splitting(by="group", column="document")
    dataset = prepared(f"text:{tmp_path}", task="generation", split=by_file)
    sides = [load_examples(blobs, dataset, split=split) for split in ("train", "test")]  # type: ignore[arg-type]
    files = [{text[0] for text in strings(s.schema.columns[1], s.features[:, 1], s.texts)} for s in sides]
    assert files[0].isdisjoint(files[1])
    assert files[0] | files[1] == set("abcdefgh")


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        ([{"question": "?"}], r"line 1: a record must be .*, got the keys 'question'"),
        ([{"text": "a"}, {"prompt": "a", "completion": 3}], "line 2: a record must be"),
        ([{"messages": [{"role": "user", "content": "?"}]}], 'line 1: the last of two or more "messages"'),
        ([{"messages": [{"role": "user"}, {"role": "assistant", "content": "!"}]}], 'line 1: each of "messages"'),
        ([{"text": "a"}, {"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]}],
         "holds prompts and conversations"),
    ],
)  # fmt: skip
def test_what_cannot_be_learned_is_told(prepared: Prepared, tmp_path: Path, rows: list[object], match: str) -> None:
    with pytest.raises(InvalidDataset, match=match):
        prepared(lines(tmp_path / "rows.jsonl", *rows), task="generation")


def test_rows_are_split_by_a_key_that_must_be_there(prepared: Prepared, tmp_path: Path) -> None:
    source = lines(tmp_path / "rows.jsonl", {"text": "a", "book": 1}, {"text": "b"})
    with pytest.raises(InvalidDataset, match="line 2: there is no key 'book'"):
        prepared(source, task="generation", split=Splitting(by="group", column="book"))
