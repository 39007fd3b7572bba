"""Any ONNX file is served with its true names, dtypes and dynamic dimensions: the MiniLM int8 encoder."""

from pathlib import Path

import numpy as np
import pytest

from models import MINILM_INT8, fetch
from mofang.base.domain.errors import TensorDatatype, TensorName, TensorShape
from mofang.base.engines.catalog import load_engine
from servers import Server


def tokens(rows: int, length: int) -> dict[str, np.ndarray]:
    ids = np.random.default_rng(7).integers(1000, 2000, (rows, length))
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}


@pytest.fixture(scope="module")
def encoder(server: Server) -> Server:
    server.serve("minilm", fetch(MINILM_INT8))
    return server


def test_its_signature_is_the_files_own(encoder: Server) -> None:
    metadata = encoder.client.serve.metadata("minilm")
    assert {spec["name"]: (spec["datatype"], spec["shape"]) for spec in metadata["inputs"]} == {
        "input_ids": ("INT64", [-1, -1]),
        "attention_mask": ("INT64", [-1, -1]),
        "token_type_ids": ("INT64", [-1, -1]),
    }


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
@pytest.mark.parametrize(("rows", "length"), [(1, 5), (3, 17)])
def test_it_answers_as_the_engine_in_process(
    encoder: Server, protocol: str, rows: int, length: int, tmp_path: Path
) -> None:
    (tmp_path / "model.onnx").symlink_to(fetch(MINILM_INT8))
    engine = load_engine("onnx", tmp_path)
    inputs = tokens(rows, length)
    expected = engine.infer(inputs)
    engine.close()
    answer = encoder.client.serve.predict("minilm", inputs, protocol=protocol)  # type: ignore[arg-type]
    assert set(answer.outputs) == set(expected)
    for name, array in expected.items():
        np.testing.assert_allclose(answer.outputs[name], array, atol=1e-5)


def test_what_does_not_fit_is_refused_in_its_own_words(encoder: Server) -> None:
    predict = encoder.client.serve.predict
    good = tokens(1, 4)
    with pytest.raises(TensorName, match="'token_type_ids' is missing"):
        predict("minilm", {name: good[name] for name in ("input_ids", "attention_mask")})
    with pytest.raises(TensorDatatype, match="takes INT64, got INT32"):
        predict("minilm", {**good, "input_ids": good["input_ids"].astype(np.int32)})
    with pytest.raises(TensorShape):
        predict("minilm", {**good, "input_ids": good["input_ids"][0]})
