"""What [prepare] may say: sources, cleaning, ranges of numbers, changes of images, splits, as data."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

Seed = Annotated[int, Meta(ge=0, le=2**31 - 1, description="the same seed makes the same model, byte for byte")]
Share = Annotated[float, Meta(ge=0.01, le=0.9)]
Source = Annotated[str, Meta(description="SCHEME:NAME, e.g. sklearn:digits, csv:/file, images:/folder")]
Pixels = Annotated[int, Meta(ge=1, le=4_096)]
Strength = Annotated[float, Meta(ge=0, le=1)]

Task = Literal["classification", "regression"]

SCHEMES = ("idx", "sklearn", "csv", "npz", "images")
BUNDLED = ("digits", "iris", "wine", "breast_cancer", "diabetes")
"""The data sets that come with scikit-learn and need no network."""


class Normalise(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[prepare.normalise]: the range of the numbers a model sees, measured on the training rows.

    The same happens in training and, inside the graph, in serving.
    """

    method: Annotated[
        Literal["none", "unit", "standard"],
        Meta(description="unit: 0 to 1; standard: mean 0, deviation 1, of each channel of images or column of rows"),
    ] = "none"
    mean: Annotated[
        tuple[float, ...], Meta(description="standard: take these and do not measure, one for each channel or column")
    ] = ()
    deviation: Annotated[tuple[Annotated[float, Meta(gt=0)], ...], Meta(description="goes with `mean`")] = ()


class Augment(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[prepare.augment]: images are changed at random, in training alone, anew in every epoch.

    It works for algorithms that learn from images batch by batch.
    """

    flip: Annotated[Strength, Meta(description="share of the images that are mirrored, left to right")] = 0.0
    crop: Annotated[int, Meta(ge=0, le=256, description="shift by up to so many pixels; what is bared is black")] = 0
    rotate: Annotated[float, Meta(ge=0, le=180, description="turn by up to so many degrees, either way")] = 0.0
    brightness: Annotated[Strength, Meta(description="lighten or darken by up to this share")] = 0.0
    contrast: Annotated[Strength, Meta(description="raise or lower the distance from the mean by up to this share")] = (
        0.0
    )
    saturation: Annotated[Strength, Meta(description="raise or lower the distance from grey by up to this share")] = 0.0

    def __bool__(self) -> bool:
        """Whether it changes anything."""
        return self != Augment()


class Prepare(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[prepare]: where the data comes from, and how it is split."""

    source: Source | Annotated[tuple[Source, ...], Meta(min_length=1, description="the first that is there is used")]
    target: Annotated[str, Meta(description="csv: the column to predict; empty: the last column")] = ""
    task: Annotated[
        Literal["auto", "classification", "regression"],
        Meta(description="auto: regression if the target holds fractions, classification if whole numbers or texts"),
    ] = "auto"
    test_fraction: Annotated[Share, Meta(description="held out, unless the data has a split of its own")] = 0.2
    limit: Annotated[int, Meta(ge=0, description="use at most so many rows, 0: all")] = 0
    seed: Seed = 0
    size: Annotated[
        tuple[Pixels, ...],
        Meta(
            max_length=2,
            description="images: height and width they are resized and cropped to; empty: all have one size already",
        ),
    ] = ()
    colour: Annotated[Literal["rgb", "grey"], Meta(description="images: three channels or one")] = "rgb"
    normalise: Normalise = Normalise()
    augment: Augment = Augment()

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources in the order to try them."""
        return (self.source,) if isinstance(self.source, str) else self.source
