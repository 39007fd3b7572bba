"""A model's whole life by the Python client: from a recipe to an invoice, on real data, and a variant at the end."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from sklearn.datasets import load_digits

from mofang import Client
from mofang.base.domain.errors import GateFailed
from mofang.base.domain.names import now_us
from mofang.surface.sdk.prediction import Prediction
from servers import Server

HOUR_US = 3_600_000_000
RECIPE = """
name = "digits"

[prepare]
source = "sklearn:digits"

[train]
{train}
seed = 7

[evaluate]
gate = "{gate}"
"""
WEAK = RECIPE.format(train='algorithm = "decision_tree"\nmax_depth = 2', gate="accuracy >= 0.9")
LINEAR = RECIPE.format(train='algorithm = "logistic_regression"\nepochs = 6', gate="accuracy >= 0.9")
NEURAL = RECIPE.format(
    train='algorithm = "mlp"\nhidden = [128]\nepochs = 12\nbatch_size = 32', gate="accuracy >= 0.9 and recall[3] >= 0.8"
)
PRICES = """
currency = "EUR"

[[price]]
endpoint = "*"
meter = "requests"
per = 1
amount = "0.001"

[[price]]
endpoint = "digits"
meter = "rows"
per = 1000
amount = "0.5"
"""


def train(client: Client, recipe: str) -> dict[str, object]:
    """Run a recipe to its end; return what became of it."""
    return dict(client.jobs.wait(client.train.run(recipe).id, timeout_seconds=60).result)


def test_from_a_recipe_to_an_invoice(server: Server) -> None:
    client = server.client
    pixels, digits = load_digits(return_X_y=True)
    pixels = pixels.astype(np.float32)

    # make: a gate holds a weak model back, two good ones become versions
    with pytest.raises(GateFailed, match="accuracy"):
        train(client, WEAK)
    assert client.register.list_models() == []
    (refused,) = client.evaluate.list_evaluations()
    assert not refused.passed
    first, second = train(client, LINEAR), train(client, NEURAL)
    assert (first["version"], second["version"]) == (1, 2)
    run = client.train.get_run(str(second["run"]))
    assert run.conversion["passed"]
    assert run.conversion["labels_equal"] == run.conversion["rows"]
    assert [point["epoch"] for point in run.curve] == list(range(1, 13))
    version = client.register.promote("digits", 2, "champion")
    assert version.digest == second["digest"] != first["digest"]
    assert (version.lineage.run, version.lineage.dataset) == (run.id, run.dataset)
    assert "<svg" in client.evaluate.confusion_svg(str(second["evaluation"]))
    assert "digits" in client.evaluate.model_card(str(second["evaluation"]))

    # run: deploy, ask by both protocols, switch by alias, go back
    client.identity.create_tenant("acme")
    client.identity.create_project("shop", "acme")
    client.bill.set_prices(PRICES)
    answers: list[tuple[int, Prediction]] = []

    def ask(shop: Client, rows: int) -> None:
        for protocol in ("rest", "grpc"):
            answer = shop.serve.predict("digits", {"features": pixels[:rows]}, protocol=protocol)  # type: ignore[arg-type]
            answers.append((rows, answer))
            assert (answer.outputs["label"] == digits[:rows]).mean() > 0.85

    with Client(server.url, client.identity.create_key("shop").key, grpc=server.grpc) as shop:
        client.deploy.roll_out("digits", "digits@1")
        ask(shop, 10)
        client.deploy.roll_out("digits", "digits@champion")
        ask(shop, 200)
        client.deploy.roll_back("digits")
        ask(shop, 30)
    assert [answer.version for _, answer in answers] == [1, 1, 2, 2, 1, 1]
    assert {answer.digest for _, answer in answers} == {first["digest"], second["digest"]}

    # sell: what was answered is what is billed, by the digest that answered
    asked: Counter[str] = Counter()
    for rows, answer in answers:
        asked[answer.digest] += rows
    usage = client.meter.usage(["digest"], project="shop").items
    assert {row.by["digest"]: row.quantities["rows"] for row in usage} == dict(asked)
    hour = now_us() // HOUR_US * HOUR_US
    invoice = client.bill.create_invoice("acme", start=hour - HOUR_US, end=hour + HOUR_US)
    assert invoice.total_micros == 6 * 1000 + 480 * 500 == sum(line.amount_micros for line in invoice.lines)
    (rows,) = [line for line in invoice.lines if line.scope.meter == "rows"]
    assert {part.digest: part.quantity for part in rows.parts} == dict(asked)
    assert sum(event.quantity for event in client.bill.trace_line(invoice.id, rows.number)) == rows.quantity
    assert client.bill.verify_invoice(invoice.id).matches
    assert client.audit.verify().records == len([*client.audit.records()])


def test_a_variant_is_smaller_and_serves(server: Server) -> None:
    client = server.client
    order = client.compress.run("digits@2", max_drop=0.05, objective="size", trials=2)
    job = client.jobs.wait(order.id, timeout_seconds=120)
    found = client.compress.variants("digits@2")
    (kept,) = [each for each in found.candidates if each.is_picked]
    assert kept.accepted
    assert kept.comparison is not None
    assert kept.comparison["size_bytes"] < kept.comparison["parent_size_bytes"] / 2
    assert {latency["batch"] for latency in kept.comparison["latencies"]} == {1, 32}
    assert job.result["picked"] == f"digits@2+{kept.technique}"
    registered = client.register.get_version(job.result["picked"])
    assert (registered.digest, registered.lineage.parent) == (kept.digest, kept.parent)
    assert client.register.get_version("digits").variant == ""
    client.deploy.roll_out("digits", "digits@2", variant="smallest within 5 points")
    pixels, digits = load_digits(return_X_y=True)
    answer = client.serve.predict("digits", {"features": pixels.astype(np.float32)})
    assert (answer.version, answer.digest) == (2, kept.digest)
    assert (answer.outputs["label"] == digits).mean() > 0.9
