"""A regression over the API: its scores as fields, and no confusion matrix."""

import httpx
import numpy as np

from mofang.make.evaluate.metrics import score_numbers
from mofang.make.evaluate.report import Report
from platforms import House


def test_an_evaluation_of_numbers_has_its_own_scores_and_no_confusion_matrix(house: House, admin: httpx.Client) -> None:
    version = house.version()
    report = Report(score_numbers(np.arange(4.0), np.array([0.0, 1.0, 2.0, 4.0])), 0.5, "rmse <= 1")
    made = house.platform.evaluations.record("digits", version.digest, "sha256:d", report)
    found = admin.get(f"/evaluations/{made.id}").json()
    assert found["metrics"] == {"mse": 0.25, "rmse": 0.5, "mae": 0.25, "r2": 0.8, "mape": 1 / 12}
    assert found["report"]["scores"]["residuals"]["largest"] == 1.0
    refused = admin.get(f"/evaluations/{made.id}/confusion.svg")
    assert refused.status_code == 404
    assert "there is no confusion matrix" in refused.text
    assert "tabular-regression" in admin.get(f"/evaluations/{made.id}/card.md").text
