"""What a pushed file is, is told by its content: whatever it is called, and however hostile it is."""

import bz2
import gzip
import io
import json
import lzma
import pickle
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import joblib
import lightgbm
import numpy as np
import pytest
import skops.io
import xgboost
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

import ggufs
import graphs
from mofang.base.domain.errors import Invalid, InvalidModel, UnknownFormat
from mofang.make.convert.formats import FORMATS
from mofang.make.convert.recognise import format_of, recognise

FUZZ = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
ONNX = graphs.classifier(np.arange(8, dtype=np.float32).reshape(4, 2)).SerializeToString()


def _zip(*names: str, **contents: bytes) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name in names:
            archive.writestr(name, contents.get(name, b"x"))
    return target.getvalue()


def _tensors(header: object) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(64)


def _message(*fields: tuple[int, bytes | int]) -> bytes:
    """Write a protobuf message of short fields."""
    parts = (
        bytes([number << 3]) + bytes([value])
        if isinstance(value, int)
        else bytes([number << 3 | 2, len(value)]) + value
        for number, value in fields
    )
    return b"".join(parts)


@pytest.fixture(scope="module")
def real() -> dict[str, bytes]:
    """Files as their own libraries write them."""
    features, target = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=200).fit(features, target)
    booster = xgboost.train({"objective": "multi:softprob", "num_class": 3}, xgboost.DMatrix(features, target), 2)
    trees = lightgbm.train({"objective": "regression", "verbosity": -1}, lightgbm.Dataset(features, target), 2)
    found = {
        "onnx": ONNX,
        "gguf": ggufs.gguf(),
        "skops": skops.io.dumps(model),
        "xgboost JSON": bytes(booster.save_raw("json")),
        "xgboost UBJSON": bytes(booster.save_raw("ubj")),
        "lightgbm": trees.model_to_string().encode(),
    }
    for protocol in range(2, 6):
        found[f"pickle {protocol}"] = pickle.dumps(model, protocol)
    for compress in ("zlib", "gzip", "bz2", "xz", "lzma"):
        buffer = io.BytesIO()
        joblib.dump(model, buffer, compress=(compress, 3))
        found[f"pickle {compress}"] = buffer.getvalue()
    return found


def test_what_libraries_write_is_recognised(tmp_path: Path, real: dict[str, bytes]) -> None:
    for name, content in real.items():
        path = tmp_path / "README.md"  # by content, not by name
        path.write_bytes(content)
        assert format_of(path) == name.partition(" ")[0], name


SHAPES: dict[str, bytes] = {
    "catboost": b"CBM1" + bytes(60),
    "vowpalwabbit": struct.pack("<I", 7) + b"9.11.9\0" + bytes(40),
    "torch.export": _zip("m/archive_format", "m/models/model.json", "m/data/weights/w0"),
    "torchscript": _zip("n/data.pkl", "n/constants.pkl", "n/code/__torch__.py", "n/version"),
    "torch.state": _zip("a/data.pkl", "a/data/0", "a/version"),
    "safetensors": _tensors({"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}),
    "keras": _zip("metadata.json", "config.json", "model.weights.h5"),
    "keras.h5": b"\x89HDF\r\n\x1a\n" + bytes(64),
    "mindir": _message((1, b"0.1.0"), (2, b"MindSpore"), (7, b"\x0a\x01x")),
}


@pytest.mark.parametrize("name", SHAPES)
def test_the_shapes_of_other_formats_are_recognised(tmp_path: Path, name: str) -> None:
    (tmp_path / "model.onnx").write_bytes(SHAPES[name])
    assert recognise(tmp_path).format == name


def _savedmodel(folder: Path) -> None:
    (folder / "saved_model.pb").write_bytes(_message((1, 1), (2, b"\x0a\x01x")))
    (folder / "variables").mkdir()
    (folder / "variables" / "variables.index").write_bytes(b"1")


def _huggingface(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "bert"}')
    (folder / "model.safetensors").write_bytes(SHAPES["safetensors"])


def _lora(folder: Path) -> None:
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    (folder / "adapter_model.safetensors").write_bytes(SHAPES["safetensors"])


def _mlflow(folder: Path) -> None:
    (folder / "MLmodel").write_text("artifact_path: model\nflavors:\n  sklearn:\n    pickled_model: model.pkl\n")
    (folder / "model.pkl").write_bytes(pickle.dumps([1]))


@pytest.mark.parametrize("make", [_savedmodel, _huggingface, _lora])
@pytest.mark.parametrize("where", ["", "model/1"])
def test_folders_are_recognised_by_what_they_hold(tmp_path: Path, make: Callable[[Path], None], where: str) -> None:
    root = tmp_path / where
    root.mkdir(parents=True, exist_ok=True)
    make(root)
    found = recognise(tmp_path)
    assert (found.format, found.path) == (make.__name__.lstrip("_"), root)


def test_an_mlflow_folder_is_what_is_inside(tmp_path: Path) -> None:
    _mlflow(tmp_path)
    (tmp_path / "requirements.txt").write_text("scikit-learn")
    found = recognise(tmp_path)
    assert (found.format, found.inside, found.path.name) == ("pickle", "mlflow", "model.pkl")
    (tmp_path / "model.pkl").unlink()
    (tmp_path / "model").mkdir()
    _huggingface(tmp_path / "model")
    assert (recognise(tmp_path).format, recognise(tmp_path).inside) == ("huggingface", "mlflow")


def test_every_format_is_recognised_by_some_test(real: dict[str, bytes]) -> None:
    tested = {name.partition(" ")[0] for name in real} | set(SHAPES) | {"savedmodel", "huggingface", "lora", "mlflow"}
    assert tested == set(FORMATS)


def test_files_beside_a_model_are_named_not_guessed(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(SHAPES["catboost"])
    (tmp_path / "README.md").write_text("hello")
    assert recognise(tmp_path).ignored == ("README.md",)


# --- refusals -----------------------------------------------------------------------------------------------------


def _refused(folder: Path) -> str:
    with pytest.raises(Invalid) as caught:
        recognise(folder)
    return _one_sentence(caught.value)


def _one_sentence(refusal: Invalid) -> str:
    assert refusal.hint
    assert "\n" not in str(refusal)
    return str(refusal)


def test_several_models_are_not_chosen_from(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(SHAPES["catboost"])
    (tmp_path / "b").write_bytes(b"tree\nversion=v4\n")
    assert _refused(tmp_path) == "several models were pushed: 'a' is CatBoost (cbm), 'b' is LightGBM (text)"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b"hello\nworld", "it is text that begins 'hello'"),
        (_zip("a.txt"), "it is a zip of other things"),
        (gzip.compress(b"hello", mtime=0), "it is gzip of other things"),
        (zlib.compress(b"hello"), "its first bytes are 78 9c"),
        (bz2.compress(b"hello"), "its first bytes are 42 5a"),
        (lzma.compress(b"hello"), "its first bytes are fd 37"),
        (b"\x7fELF" + bytes(99), "it is a program"),
        (b"%PDF-1.7", "it is a PDF"),
        (b"\x93NUMPY\x01", "it is a NumPy array, data and no model"),
        (b"binf" + bytes(20), "it is of XGBoost's old binary format"),
        (pickle.dumps([1], 0), "it is text that begins"),
        (b'{"model": 1}', "it is text that begins"),
        (b"\x80\x09.", "its first bytes are 80 09"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # the bytes differ from run to run
)
def test_what_is_no_model_is_described(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    assert f"'model.onnx' is no model: {message}" in _refused(tmp_path)
    with pytest.raises(UnknownFormat) as caught:
        recognise(tmp_path)
    assert all(each.title in caught.value.hint for each in FORMATS.values())


def test_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "model").write_bytes(ONNX)
    folder = tmp_path / "pushed"
    folder.mkdir()
    (folder / "model").symlink_to(tmp_path / "real" / "model")
    assert "0 files were pushed" in _refused(folder)


def _linked() -> bytes:
    target = io.BytesIO()
    entry = zipfile.ZipInfo("a/data.pkl")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr(entry, "/etc/passwd")
    return target.getvalue()


def _bomb() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", bytes(100 << 20))
    return target.getvalue()


@pytest.mark.parametrize(
    ("archive", "message"),
    [
        (_zip("schema.json", "../../etc/cron.d/x"), "'../../etc/cron.d/x', which leads out of its folder"),
        (_zip("schema.json", "/etc/passwd"), "'/etc/passwd', which leads out"),
        (_zip("schema.json", "a\\..\\b"), "leads out"),
        (_linked(), "'a/data.pkl', which leads out"),
        (_bomb(), "says it unpacks to 104,857,600"),
        (_zip("schema.json")[:-30], "cut short"),
        (b"PK\x03\x04" + bytes(100), "cut short: it has no end"),
        (_zip("schema.json")[:-12] + b"\xff\xff" + _zip("schema.json")[-10:], "has 100,001 entries"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # the bytes differ from run to run
)
def test_hostile_archives_are_refused_unopened(tmp_path: Path, archive: bytes, message: str) -> None:
    (tmp_path / "model").write_bytes(archive)
    assert message in _refused(tmp_path)
    with pytest.raises(InvalidModel):
        recognise(tmp_path)


@FUZZ
@given(content=st.binary(max_size=300))
def test_noise_is_refused_or_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model").write_bytes(content)
    try:
        assert recognise(tmp_path).format in FORMATS
    except Invalid as refusal:
        _one_sentence(refusal)


@FUZZ
@given(begin=st.sampled_from([*SHAPES.values(), ONNX, ggufs.gguf()]), at=st.floats(0, 1), noise=st.binary(max_size=16))
def test_models_with_noise_in_them_are_refused_or_named(tmp_path: Path, begin: bytes, at: float, noise: bytes) -> None:
    cut = int(at * len(begin))
    (tmp_path / "model").write_bytes(begin[:cut] + noise + begin[cut + len(noise) :])
    try:
        assert recognise(tmp_path).format in FORMATS
    except Invalid as refusal:
        _one_sentence(refusal)


def test_a_message_of_a_hundred_million_fields_is_left_early(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(b"\x08\x01" * (2 << 20))
    assert "is no model" in _refused(tmp_path)
