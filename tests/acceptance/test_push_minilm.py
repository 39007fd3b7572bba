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


def test_a_version_may_take_other_datatypes_and_fixed_sizes(encoder: Server) -> None:
    register, predict = encoder.client.register, encoder.client.serve.predict
    names = {"input_ids": "INT32", "attention_mask": "BOOL", "token_type_ids": "UINT8", "last_hidden_state": "FP64"}
    given = register.get_version("minilm@1").artifact.signature.outputs[0].name
    wished = {given if name == "last_hidden_state" else name: datatype for name, datatype in names.items()}
    done = encoder.client.jobs.wait(register.edit("minilm@1", datatypes=wished, shapes={"input_ids": (-1, 6)}))
    edited = f"minilm@{done.result['version']}"
    encoder.client.deploy.roll_out("minilm-narrow", edited)
    inputs = tokens(2, 6)
    expected = predict("minilm", inputs).outputs[given]
    narrow = {
        "input_ids": inputs["input_ids"].astype(np.int32),
        "attention_mask": inputs["attention_mask"].astype(np.bool_),
        "token_type_ids": inputs["token_type_ids"].astype(np.uint8),
    }
    found = predict("minilm-narrow", narrow).outputs[given]
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, atol=1e-5)
    with pytest.raises(TensorDatatype, match="takes INT32, got INT64"):
        predict("minilm-narrow", inputs)
    with pytest.raises(TensorShape):
        predict("minilm-narrow", {name: array[:, :5] for name, array in narrow.items()})
    assert register.get_version(edited).lineage.parent == register.get_version("minilm@1").digest
