"""Folders and archives of pictures: what is read, what is left out, and what is told."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mofang.base.domain.errors import DatasetUnavailable, InvalidDataset, TensorData
from mofang.base.engines.pillow import pixels, png
from mofang.base.storage.blobs import DiskBlobs
from mofang.make.prepare.dataset import Dataset, load_examples, load_split
from mofang.make.recipe import Augment, Normalise

Prepared = Callable[..., Dataset]


def _file(array: np.ndarray[Any, Any], kind: str = "PNG", **settings: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind, **settings)
    return file.getvalue()


def _picture(seed: int, height: int = 12, width: int = 10) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def _fill(folder: Path, split: str = "") -> dict[str, bytes]:
    files = {f"{split}{name}/{i}.png": _file(_picture(i)) for name in ("cat", "dog") for i in range(5)}
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return files


def test_folders_name_classes_and_pixels_come_back(prepared: Prepared, blobs: DiskBlobs, tmp_path: Path) -> None:
    _fill(tmp_path / "pets")
    dataset = prepared(f"images:{tmp_path}/pets")
    schema = dataset.schema
    assert (dataset.name, schema.labels, schema.shape, schema.features) == ("pets", ("cat", "dog"), (12, 10, 3), 360)
    assert (schema.encoded, schema.dtype, dataset.splits["test"].rows) == (True, "uint8", 2)
    stored = {image.tobytes() for image in load_examples(blobs, dataset, Augment()).features}
    assert stored <= {_picture(i).tobytes() for i in range(5)}
    assert load_split(blobs, dataset, "test")[0].shape == (2, 360)


def test_an_archive_is_read_like_the_folder(prepared: Prepared, tmp_path: Path) -> None:
    files = _fill(tmp_path / "pets")
    with zipfile.ZipFile(tmp_path / "pets.zip", "w") as archive:
        for path, content in files.items():
            archive.writestr(f"pets/{path}", content)
        archive.writestr("__MACOSX/pets/cat/._0.png", b"junk")
        archive.writestr("pets/readme.txt", b"no picture")
    assert prepared(f"images:{tmp_path}/pets.zip").digest == prepared(f"images:{tmp_path}/pets").digest


def test_folders_train_and_test_are_the_split(prepared: Prepared, tmp_path: Path) -> None:
    _fill(tmp_path / "pets", "train/")
    _fill(tmp_path / "pets", "test/")
    dataset = prepared(f"images:{tmp_path}/pets")
    assert (dataset.splits["train"].rows, dataset.splits["test"].rows) == (10, 10)
    assert dataset.schema.labels == ("cat", "dog")


@pytest.mark.parametrize(
    "content", [b"no picture", _file(_picture(0))[:200], _file(_picture(0), "JPEG")[:300], _file(_picture(0), "GIF")]
)
def test_what_cannot_be_decoded_is_left_out_counted_and_named(tmp_path: Path, content: bytes) -> None:
    from mofang.make.prepare.images import read

    _fill(tmp_path / "pets")
    (tmp_path / "pets" / "cat" / "broken.jpg").write_bytes(content)
    table = read(f"{tmp_path}/pets", (), "rgb")
    assert len(table.target) == 10
    assert table.removed == {"images that cannot be decoded": 1}
    assert "cat/broken.jpg" in table.notes[0]


def test_sizes_that_differ_need_a_size(prepared: Prepared, tmp_path: Path) -> None:
    _fill(tmp_path / "pets")
    (tmp_path / "pets" / "dog" / "large.jpg").write_bytes(_file(_picture(9, 40, 80), "JPEG"))
    with pytest.raises(InvalidDataset, match=r"12 x 10 .* and 40 x 80 \(dog/large.jpg\)") as caught:
        prepared(f"images:{tmp_path}/pets")
    assert "size = " in caught.value.hint
    dataset = prepared(f"images:{tmp_path}/pets", size=(8, 6), colour="grey")
    assert (dataset.schema.shape, dataset.schema.features) == ((8, 6), 48)


def test_what_is_no_folder_of_pictures_is_told(prepared: Prepared, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.zip").write_text("no archive")
    for source, error, message in (
        ("empty", InvalidDataset, "has no image in a folder of a class"),
        ("text.zip", InvalidDataset, "cannot be read as .zip"),
        ("none", DatasetUnavailable, "No such file"),
    ):
        with pytest.raises(error, match=message):
            prepared(f"images:{tmp_path}/{source}")


def test_pictures_are_resized_as_pillow_does_and_cropped_around_the_middle() -> None:
    picture = _picture(3, 30, 90)
    expected = np.asarray(Image.fromarray(picture).resize((60, 20), Image.Resampling.BILINEAR))[:, 25:35]
    assert (pixels(_file(picture), (20, 10), 3, "x") == expected).all()
    assert (pixels(png(picture), (30, 90), 3, "x") == picture).all()


def test_odd_pictures_become_plain_ones() -> None:
    picture = _picture(4, 8, 8)
    turned = Image.Exif()
    turned[0x0112] = 6  # the camera lay on its side
    upright = pixels(_file(picture, exif=turned), (8, 8), 3, "x")
    assert (upright == np.rot90(picture, -1)).all()
    deep = (picture[..., 0].astype(np.uint16) << 8) | 77
    assert (pixels(_file(deep), (8, 8), 0, "x") == picture[..., 0]).all()
    ink = io.BytesIO()
    Image.fromarray(picture).convert("CMYK").save(ink, "JPEG")
    assert pixels(ink.getvalue(), (8, 8), 3, "x").shape == (8, 8, 3)


def test_a_picture_of_too_many_pixels_is_refused_from_its_head(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mofang.base.engines.pillow.MAX_PIXELS", 100)
    with pytest.raises(TensorData, match="10 x 12 pixels; 100 are the limit"):
        pixels(_file(_picture(0)), (4, 4), 3, "row 0")


@pytest.mark.parametrize("colour", ["rgb", "grey"])
def test_scaling_is_measured_on_training_rows_of_each_channel(
    prepared: Prepared, blobs: DiskBlobs, tmp_path: Path, colour: str
) -> None:
    _fill(tmp_path / "pets")
    source = f"images:{tmp_path}/pets"
    standard = prepared(source, colour=colour, normalise=Normalise(method="standard"))
    examples = load_examples(blobs, standard, Augment())
    channels = examples.batch(np.arange(len(examples.features))).reshape(-1, 3 if colour == "rgb" else 1)
    assert np.abs(channels.mean(axis=0)).max() < 1e-4
    assert np.abs(channels.std(axis=0) - 1).max() < 1e-4
    assert (examples.rows() == examples.batch(np.arange(len(examples.features))).reshape(8, -1)).all()

    unit = prepared(source, colour=colour, normalise=Normalise(method="unit"))
    assert unit.digest != standard.digest
    rows = load_examples(blobs, unit, Augment()).rows()
    assert (rows.min(), rows.max()) == (0, 1)

    given = prepared(source, colour=colour, normalise=Normalise(method="standard", mean=(100.0,), deviation=(50.0,)))
    assert given.schema.scaling is not None
    assert (given.schema.scaling.offset, given.schema.scaling.scale) == ((100.0,), (50.0,))
    if colour == "rgb":
        two = Normalise(method="standard", mean=(1.0, 2.0), deviation=(1.0, 1.0))
        with pytest.raises(InvalidDataset, match="gives 2 means, but the data has 3 channels"):
            prepared(source, normalise=two)
