"""What a data sheet says of rows and warns of: each suspicion is planted, and found; clean data raises none."""

import numpy as np
import pytest
from numpy.typing import NDArray

from mofang.make.prepare.columns import Column
from mofang.make.prepare.dataset import Examples, Schema, examples_of
from mofang.make.prepare.drift import drift_of_counts, drift_of_numbers
from mofang.make.prepare.sheet import MOST_COLUMNS, Sheet, sheet_of

ROWS = 2_000


def halves(features: NDArray[np.float32], target: NDArray[np.int64], schema: Schema | None = None) -> Sheet:
    """Split at the middle and describe."""
    whole = examples_of(features, target)
    schema = schema or whole.schema
    middle = len(features) // 2
    parts = [Examples(features[part], whole.target[part], schema) for part in (slice(0, middle), slice(middle, None))]
    return sheet_of(parts[0], parts[1])


def kinds(sheet: Sheet) -> set[tuple[str, str]]:
    return {(warning.kind, warning.column) for warning in sheet.warnings}


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def clean(random: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    features = random.normal(size=(ROWS, 3)).astype(np.float32)
    return features, (features[:, 0] + random.normal(size=ROWS) > 0).astype(np.int64)


def test_clean_rows_are_described_and_raise_no_suspicion(
    clean: tuple[NDArray[np.float32], NDArray[np.int64]],
) -> None:
    features, target = clean
    sheet = halves(features, target)
    assert sheet.warnings == ()
    assert sheet.rows == {"train": ROWS // 2, "test": ROWS // 2}
    first, train = sheet.columns[0], features[: ROWS // 2, 0]
    assert (first.name, first.kind, first.missing) == ("feature 0", "number", (0.0, 0.0))
    assert (first.low, first.high) == (pytest.approx(train.min()), pytest.approx(train.max()))
    assert (first.mean, first.deviation) == (
        pytest.approx(train.mean(), abs=1e-6),
        pytest.approx(train.std(), rel=1e-5),
    )
    assert sum(first.train) == sum(first.test) == ROWS // 2
    assert first.train == tuple(np.histogram(train.astype(np.float64), 20)[0].tolist())
    assert 0.2 < first.tells < 0.9
    assert sheet.columns[1].tells < 0.1
    counts = [np.bincount(part) for part in (target[: ROWS // 2], target[ROWS // 2 :])]
    assert sheet.classes == {"0": (counts[0][0], counts[1][0]), "1": (counts[0][1], counts[1][1])}


def test_a_column_that_tells_the_target_is_suspected(
    clean: tuple[NDArray[np.float32], NDArray[np.int64]], random: np.random.Generator
) -> None:
    features, target = clean
    features[:, 2] = target * 10 + random.normal(size=ROWS) * 0.1
    sheet = halves(features, target)
    assert kinds(sheet) == {("leakage", "feature 2")}
    numbers = examples_of(features, (features[:, 2] * 3).astype(np.float64))
    both = sheet_of(numbers, numbers)
    assert ("leakage", "feature 2") in kinds(both)
    assert both.target is not None
    assert both.classes == {}


def test_rows_on_both_sides_and_repeated_rows_are_found(
    clean: tuple[NDArray[np.float32], NDArray[np.int64]],
) -> None:
    features, target = clean
    features[ROWS // 2 : ROWS // 2 + 100] = features[:100]
    features[200:300] = features[0]
    sheet = halves(features, target)
    assert sheet.duplicates == {"train": 100, "across": 100}
    assert kinds(sheet) >= {("leakage", ""), ("duplicates", "")}
    assert any("100 of 1,000 held-out rows (10%)" in warning.message for warning in sheet.warnings)


def test_drift_missing_constant_and_uneven_classes_are_told(
    clean: tuple[NDArray[np.float32], NDArray[np.int64]],
) -> None:
    features, _ = clean
    features[ROWS // 2 :, 0] += 2
    features[: ROWS // 2 : 2, 1] = np.nan
    features[:, 2] = 7
    target = (np.arange(ROWS) % 50 == 0).astype(np.int64)
    found = kinds(halves(features, target))
    assert found == {("drift", "feature 0"), ("missing", "feature 1"), ("constant", "feature 2"), ("imbalance", "")}


def test_categories_count_their_values_and_texts_their_length(random: np.random.Generator) -> None:
    schema = Schema(
        2, "float32", ("no", "yes"), ("town", "said"),
        columns=(Column("town", "category", values=("oslo", "rome", "lima")), Column("said", "text")),
    )  # fmt: skip
    town = random.choice(3, ROWS, p=[0.7, 0.2, 0.1])
    town[ROWS // 2 :] = random.choice(3, ROWS // 2, p=[0.1, 0.2, 0.7])
    features = np.stack([town, random.integers(0, 2, ROWS)], axis=1).astype(np.float32)
    parts = [
        Examples(features[part], random.integers(0, 2, ROWS // 2), schema, texts={"said": ["tea", "coffee"]})
        for part in (slice(0, ROWS // 2), slice(ROWS // 2, None))
    ]
    sheet = sheet_of(parts[0], parts[1])
    column = sheet.columns[0]
    assert column.values == ("oslo", "rome", "lima")
    assert sum(column.train) == ROWS // 2
    assert column.drift is not None
    assert column.drift.test == "chi2"
    assert ("drift", "town") in kinds(sheet)
    assert (sheet.columns[1].low, sheet.columns[1].high) == (3, 6)


def test_wide_tables_and_pictures_are_bounded(random: np.random.Generator) -> None:
    wide = random.normal(size=(60, MOST_COLUMNS + 5)).astype(np.float32)
    sheet = halves(wide, np.arange(60) % 2)
    assert (len(sheet.columns), sheet.more_columns) == (MOST_COLUMNS, 5)
    pictures = random.integers(0, 255, (60, 4, 4)).astype(np.uint8)
    assert halves(pictures, np.arange(60) % 2).columns == ()


def test_measures_of_drift_agree_with_their_definitions(random: np.random.Generator) -> None:
    same = drift_of_numbers(random.normal(size=5_000), random.normal(size=5_000))
    moved = drift_of_numbers(random.normal(size=5_000), random.normal(1, size=5_000))
    assert same is not None
    assert moved is not None
    assert same.psi < 0.02
    assert same.p > 0.01
    assert moved.psi > 0.5  # of two normals a deviation apart it is 1, in the limit of many bins
    assert moved.statistic == pytest.approx(0.383, abs=0.03)  # 2 * Phi(1 / 2) - 1
    first, second = np.array([50, 50]), np.array([80, 20])
    counted = drift_of_counts(first, second)
    assert counted is not None
    assert counted.psi == pytest.approx(0.3 * np.log(0.8 / 0.5) - 0.3 * np.log(0.2 / 0.5))
    assert drift_of_numbers(np.zeros(3), np.zeros(3)) is None
