"""What `mofang predict` makes of what people type."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mofang.base.domain.errors import InvalidRequest, MofangError, TensorData, TensorDatatype, TensorName
from mofang.surface.cli.inputs import read

SIGNATURE: list[dict[str, Any]] = [
    {"name": "x", "datatype": "FP32", "shape": [-1, 2]},
    {"name": "ids", "datatype": "INT64", "shape": [-1]},
    {"name": "words", "datatype": "BYTES", "shape": [-1, 1]},
]


def test_json_takes_the_datatype_of_the_signature() -> None:
    found = read(["x=[[1, 2], [3, 4]]", "ids=[5]"], [], None, SIGNATURE)
    assert found["x"].dtype == np.float32
    assert found["x"].tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert found["ids"].dtype == np.int64


def test_a_single_row_gets_the_axis_it_lacks() -> None:
    assert read(["x=[1, 2]"], [], None, SIGNATURE)["x"].shape == (1, 2)


def test_strings_become_bytes() -> None:
    found = read(['words=[["grün"], ["a"]]'], [], None, SIGNATURE)["words"]
    assert found.dtype == object
    assert found.tolist() == [["grün".encode()], [b"a"]]


def test_files_of_json_and_numpy(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("[[1, 2]]")
    np.save(tmp_path / "ids.npy", np.arange(3))
    found = read([f"x=@{tmp_path / 'x.json'}"], [f"ids={tmp_path / 'ids.npy'}"], None, SIGNATURE)
    assert found["x"].shape == (1, 2)
    assert found["ids"].tolist() == [0, 1, 2]


def test_a_whole_request(tmp_path: Path) -> None:
    body = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP64", "data": [1, 2]}]}
    (tmp_path / "body.json").write_text(json.dumps(body))
    found = read([], [], tmp_path / "body.json", SIGNATURE)
    assert found["x"].dtype == np.float64
    assert found["x"].shape == (1, 2)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("x", InvalidRequest, "'x' is no input"),
        ("x=", InvalidRequest, "'x=' is no input"),
        ("x=[[1, 2", InvalidRequest, "input 'x' is not JSON"),
        ("y=[1]", TensorName, "input 'y' is unknown: the endpoint takes 'x', 'ids', 'words'"),
        ("x=[[1, 2], [3]]", TensorData, "input 'x' holds what is no FP32"),
        ('x=["a"]', TensorData, "input 'x' holds what is no FP32"),
        ("ids=[1.5]", TensorData, "input 'ids' holds what is no INT64"),
        ("words=[[1]]", TensorData, "input 'words' holds what is no BYTES"),
    ],
)
def test_what_is_wrong_is_said_with_a_hint(text: str, error: type[MofangError], message: str) -> None:
    with pytest.raises(error) as caught:
        read([text], [], None, SIGNATURE)
    assert caught.value.message.startswith(message)


def test_no_input_at_all_names_those_there_are() -> None:
    with pytest.raises(TensorName, match="the endpoint takes x, ids, words"):
        read([], [], None, SIGNATURE)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ('{"inputs": 1}', InvalidRequest),
        ('{"inputs": [{"name": "x"}]}', InvalidRequest),
        ("[", InvalidRequest),
        ('{"inputs": [{"name": "x", "shape": [3], "datatype": "FP32", "data": [1]}]}', TensorData),
        ('{"inputs": [{"name": "x", "shape": [1], "datatype": "FP31", "data": [1]}]}', TensorDatatype),
    ],
)
def test_a_request_that_is_none(tmp_path: Path, body: str, error: type[MofangError]) -> None:
    (tmp_path / "body.json").write_text(body)
    with pytest.raises(error):
        read([], [], tmp_path / "body.json", SIGNATURE)


def test_a_pickle_is_not_loaded(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(InvalidRequest, match=r"is no \.npy file"):
        read([], [f"x={tmp_path / 'x.npy'}"], None, SIGNATURE)
