"""What [prepare] may say: sources, cleaning, ranges of numbers, changes of images, splits, as data."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

Seed = Annotated[int, Meta(ge=0, le=2**31 - 1, description="the same seed makes the same model, byte for byte")]
Share = Annotated[float, Meta(ge=0.01, le=0.9)]
Source = Annotated[
    str, Meta(description="SCHEME:NAME, e.g. sklearn:digits, csv:/file, images:/folder, https://host/file.csv")
]
Pixels = Annotated[int, Meta(ge=1, le=4_096)]
Strength = Annotated[float, Meta(ge=0, le=1)]

Task = Literal["classification", "regression", "multilabel", "generation"]

SCHEMES = (
    "file",
    "sklearn",
    "csv",
    "parquet",
    "jsonl",
    "arff",
    "npy",
    "npz",
    "idx",
    "images",
    "text",
    "http",
    "https",
    "s3",
)
PROSE = ("file", "jsonl", "text", "http", "https", "s3")
"""Schemes whose data a language model can learn from."""
REMOTE = ("http", "https", "s3")
"""Schemes that are fetched: what they bring is told by its content."""
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


class Clean(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[prepare.clean]: which rows are left out; each removal is counted, by reason."""

    missing: Annotated[
        Literal["drop", "keep", "fill"],
        Meta(
            description="rows with missing values: drop them; keep them (the model sees NaN); or fill in the median of "
            "the training rows (of a category: none at all)"
        ),
    ] = "drop"
    duplicates: Annotated[
        Literal["keep", "drop"], Meta(description="rows that are equal to an earlier one, target included")
    ] = "keep"
    range: Annotated[
        dict[str, tuple[float, float]], Meta(description="column = [lowest, highest]; rows outside are left out")
    ] = {}
    smallest_class: Annotated[int, Meta(ge=2, le=1_000_000, description="classes with fewer rows are left out")] = 2


class Encode(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[prepare.encode]: what a model sees of categories and texts; fitted to the training rows, inside the graph."""

    categories: Annotated[
        Literal["one_hot", "mean"],
        Meta(
            description="one_hot: a 0 or 1 for each; mean: one number, the target's mean (or the share of the most "
            "frequent class) in that category, drawn towards that of all rows where the category is rare"
        ),
    ] = "one_hot"
    most: Annotated[
        int, Meta(ge=1, le=10_000, description="one_hot: the most frequent are told apart, the others count as unseen")
    ] = 100
    text: Annotated[
        Literal["words", "characters", "tokens"],
        Meta(
            description="words, characters: how often words and pairs of them (runs of 2 to 4 characters) occur, by "
            "TF-IDF; tokens: the positions of words in the vocabulary, for algorithms that read sequences"
        ),
    ] = "words"
    vocabulary: Annotated[int, Meta(ge=10, le=100_000, description="so many are known, the most frequent")] = 4_096
    length: Annotated[int, Meta(ge=1, le=8_192, description="tokens: so many at the start of a text are read")] = 128


class Splitting(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[prepare.split]: which rows are held out, unless the data has a split of its own."""

    by: Annotated[
        Literal["rows", "time", "group"],
        Meta(
            description="rows: at random, of every class alike; time: those with the largest values of `column`; "
            "group: whole groups, so that no value of `column` is on both sides"
        ),
    ] = "rows"
    column: Annotated[str, Meta(description="by time or group: which column says so")] = ""


ColumnKind = Literal["number", "category", "date", "text", "drop"]


class Prepare(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[prepare]: where the data comes from, and how it is split."""

    source: Source | Annotated[tuple[Source, ...], Meta(min_length=1, description="the first that is there is used")]
    target: (
        str
        | Annotated[
            tuple[str, ...],
            Meta(
                min_length=1,
                description="tables: the column to predict; empty: the last column; several: labels that a row has or "
                "has not",
            ),
        ]
    ) = ""
    task: Annotated[
        Literal["auto", "classification", "regression", "multilabel", "generation"],
        Meta(
            description="auto: regression if the target holds fractions, classification if whole numbers or texts, "
            "multilabel if there are several; multilabel: the target holds lists of labels; generation: prompts and "
            "completions, for language models"
        ),
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
    columns: Annotated[
        dict[str, ColumnKind],
        Meta(description="what a column is, where the guess is wrong: number, category, date, text, or drop"),
    ] = {}
    clean: Clean = Clean()
    encode: Encode = Encode()
    split: Splitting = Splitting()
    normalise: Normalise = Normalise()
    augment: Augment = Augment()

    @property
    def targets(self) -> tuple[str, ...]:
        """The columns to predict; empty: the last one."""
        return tuple(filter(None, (self.target,))) if isinstance(self.target, str) else self.target

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources in the order to try them."""
        return (self.source,) if isinstance(self.source, str) else self.source
