"""The data sets that come inside scikit-learn: small, and always there."""

from __future__ import annotations

import numpy as np

from mofang.make.prepare.table import Table


def read(name: str) -> Table:
    """Load one of ``recipe.BUNDLED``."""
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{name}")()
    features = bunch.images.astype(np.uint8) if name == "digits" else bunch.data  # of digits: pixels, 0 to 16
    return Table(
        name=name,
        features=features,
        target=bunch.target,
        names=() if name == "digits" else tuple(map(str, bunch.feature_names)),
        labels=tuple(map(str, bunch.get("target_names", ()))),
    )
