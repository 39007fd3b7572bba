"""Augmentation: what it may change, and what it must leave."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mofang.make.prepare.augment import augment, flip, rotate, shift
from mofang.make.prepare.dataset import examples_of
from mofang.make.recipe import Augment

EVERYTHING = Augment(flip=0.5, crop=2, rotate=20, brightness=0.3, contrast=0.3, saturation=0.3)


def _images(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


@given(
    st.sampled_from([(6, 9), (9, 6, 1), (8, 8, 3)]),
    st.sampled_from([np.uint8, np.float32]),
    st.integers(0, 99),
)
def test_shape_dtype_and_original_stay_and_the_seed_decides(shape: tuple[int, ...], dtype: type, seed: int) -> None:
    images = _images(seed, 5, *shape).astype(dtype)
    before = images.copy()
    changed = augment(EVERYTHING, images, np.random.default_rng(seed))
    assert (changed.shape, changed.dtype) == (images.shape, images.dtype)
    assert (images == before).all()
    assert (changed == augment(EVERYTHING, images, np.random.default_rng(seed))).all()
    assert (changed != augment(EVERYTHING, images, np.random.default_rng(seed + 1))).any()
    assert (augment(Augment(), images, np.random.default_rng(seed)) == images).all()


def test_flips_mirror_about_their_share_of_the_images() -> None:
    images = _images(0, 400, 4, 5, 3)
    changed = flip(images, 0.25, np.random.default_rng(1))
    mirrored = (changed == images[:, :, ::-1]).all(axis=(1, 2, 3))
    assert (mirrored | (changed == images).all(axis=(1, 2, 3))).all()
    assert 70 < mirrored.sum() < 130


@pytest.mark.parametrize("channels", [(), (3,)])
def test_shifts_move_every_pixel_alike_and_bare_black(channels: tuple[int, ...]) -> None:
    images = _images(2, 60, 7, 6, *channels) | 1  # no pixel is 0
    found = set()
    for image, changed in zip(images, shift(images, 2, np.random.default_rng(3)), strict=True):
        padded = np.pad(image, [(2, 2), (2, 2)] + [(0, 0)] * len(channels))
        places = [
            (y, x) for y in range(5) for x in range(5) if (padded[y : y + 7, x : x + 6] == changed).all()
        ]  # fmt: skip
        assert len(places) == 1
        found.update(places)
    assert len(found) > 15


def test_turning_by_nothing_changes_nothing_and_a_quarter_moves_corners() -> None:
    images = _images(4, 3, 9, 9)
    assert (rotate(images, 0.0, np.random.default_rng(0)) == images).all()

    class Quarter:
        def uniform(self, low: float, high: float, count: int) -> np.ndarray:
            return np.full(count, high)

    assert (rotate(images, 90.0, Quarter()) == np.rot90(images, -1, axes=(1, 2))).all()  # type: ignore[arg-type]


def test_batches_are_augmented_in_training_alone() -> None:
    images = _images(5, 8, 10, 10)
    examples = examples_of(images, np.arange(8) % 2)
    varied = type(examples)(examples.features, examples.target, examples.schema, Augment(crop=3))
    index = np.array([3, 1])
    assert (varied.batch(index) == images[index]).all()
    assert varied.batch(index, np.random.default_rng(0)).shape == (2, 10, 10)
    assert (varied.batch(index, np.random.default_rng(0)) != images[index]).any()
    assert (varied.rows() == images.reshape(8, 100)).all()
