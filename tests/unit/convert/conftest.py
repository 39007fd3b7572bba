"""Files that are pushed in these tests."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import skops.io

from mofang.base.domain.work import Silent
from mofang.make.convert.bench import Made, Wishes
from mofang.make.convert.catalog import opener
from mofang.make.convert.recognise import format_of


@pytest.fixture
def pushed(tmp_path: Path) -> Callable[[Any], Made]:
    """Save a fitted pipeline with skops, and open the file as a push does."""

    def run(pipeline: Any) -> Made:
        path = tmp_path / "pushed"
        path.write_bytes(skops.io.dumps(pipeline))
        (tmp_path / "artifact").mkdir()
        found = format_of(path)
        assert found is not None
        with warnings.catch_warnings(action="ignore"):
            return opener(found)(path, tmp_path / "artifact", Wishes(), Silent())

    return run
