"""From a version to an invoice, through the command line and the control API."""

from __future__ import annotations

import csv
import io
import json
import threading
from datetime import datetime
from pathlib import Path

import pytest
from terminal import Site, Terminal

from mofang.base.domain.deployment import RolloutState
from mofang.base.domain.names import now_us
from mofang.run.deploy.store import DeploymentStore

PRICES = """
currency = "EUR"
[[price]]
meter = "requests"
per = 1000
amount = "0.50"
[[price]]
meter = "rows"
per = 3
amount = "0.01"
"""


def move(site: Site, *states: RolloutState, reason: str = "") -> None:
    """Drive the open rollout, as the controller would."""
    store = DeploymentStore(site.house.database)
    (rollout,) = store.desired().rollouts
    for state in states:
        store.move_rollout(rollout.id, state, reason)


DONE: tuple[RolloutState, ...] = ("starting", "switching", "draining", "done")


def test_deploy_switch_and_return(mofang: Terminal, site: Site) -> None:
    site.house.version("reader", b"one")
    site.house.version("reader", b"two")
    started = mofang.good("deploy", "reader@1", "--no-wait")
    assert started.out.startswith("reader is switching to reader@1 (pending)")
    move(site, *DONE)
    watched = mofang.good("rollout", "reader")
    assert watched.out.startswith("reader answers with reader@1 after ")
    assert "features: [n, 4] FP32" in watched.out
    assert "next: mofang keys create --project P" in watched.out

    rollout = mofang.good("rollout", "reader", "reader@2", "--no-wait", "--json").json
    assert (rollout["from_revision"], rollout["to_revision"]) == (1, 2)
    move(site, *DONE)
    assert "reader@2" in mofang.good("endpoints").out
    shown = mofang.good("endpoints", "show", "reader").out
    assert shown.startswith("endpoint reader answers with reader@2")
    assert "/v2/models/reader/infer" in shown

    back = mofang.good("rollback", "reader", "--no-wait", "--json").json
    assert back["is_rollback"] is True
    move(site, *DONE)
    assert mofang.good("endpoints", "list", "--json").json["items"][0]["active"]["version"] == 1
    assert mofang.good("endpoints", "delete", "reader").out == "reader is no endpoint any more; its versions stay\n"
    assert mofang("endpoints", "show", "reader").code == 5


def test_options_of_the_engine_stay_until_they_are_said_anew(mofang: Terminal, site: Site) -> None:
    site.house.version("set", b"one")
    mofang.good("deploy", "set", "--option", "threads=2", "--no-wait")
    move(site, *DONE)
    assert mofang.good("endpoints", "show", "set", "--json").json["active"]["options"] == {"threads": 2}
    assert "threads=2" in mofang.good("endpoints", "show", "set").out
    mofang.good("deploy", "set", "--no-wait")
    move(site, *DONE)
    assert mofang.good("endpoints", "show", "set", "--json").json["active"]["options"] == {"threads": 2}
    refused = mofang("deploy", "set", "--option", "slots=2", "--no-wait")
    assert (refused.code, "engine.option" in refused.err) == (2, True)
    assert mofang("deploy", "set", "--option", "threads").code == 2


def test_deploy_waits_and_tells_the_steps(mofang: Terminal, site: Site) -> None:
    site.house.version("waited", b"w")
    store = DeploymentStore(site.house.database)

    def drive() -> None:
        while not store.desired().rollouts:
            pass
        move(site, *DONE)

    thread = threading.Thread(target=drive)
    thread.start()
    ran = mofang.good("deploy", "waited", "--wait")
    thread.join(10)
    assert ran.out.startswith("waited answers with waited@1 after ")
    assert "100 %  done" in ran.err


def test_a_version_that_is_refused_leaves_the_old_one(mofang: Terminal, site: Site) -> None:
    site.house.version("refused", b"r")
    mofang.good("deploy", "refused", "--no-wait")
    move(site, "starting", "failed", reason="warm-up gave NaN")
    ran = mofang("rollout", "refused")
    assert ran.code == 6
    assert ran.err.splitlines()[-2:] == [
        "error[rollout.failed]: warm-up gave NaN",
        "hint: the old version serves on; `mofang endpoints show refused` tells the rest",
    ]


def test_deploying_what_is_not_there(mofang: Terminal) -> None:
    assert mofang("deploy", "nothing").code == 5
    assert mofang("deploy", "No Such Name").code == 2
    assert "error[endpoint.not_found]" in mofang("rollout", "nothing", "nothing@1").err


def test_keys_are_shown_once(mofang: Terminal) -> None:
    mofang.good("tenants", "create", "acme")
    assert mofang.good("projects", "create", "shop", "--tenant", "acme").out.startswith(
        "project shop; tenant acme pays"
    )
    made = mofang.good("keys", "create", "--project", "shop", "--expires", "90d", "--json").json
    assert made["key"].startswith("mf_")
    assert made["expires_at"] > made["created_at"]
    screen = mofang.good("keys", "create", "--project", "shop", "--name", "till").out
    assert "it is shown this once" in screen
    listed = mofang.good("keys", "list", "--project", "shop").out
    assert made["key"] not in listed
    assert "in 89 d" in listed
    scoped = mofang.good("keys", "create", "--project", "shop", "--endpoint", "digits", "--endpoint", "faces").out
    assert "digits, faces" in scoped
    rotated = mofang.good("keys", "rotate", made["id"], "--overlap", "2h").out
    assert f"key {made['id']} works for 2 h more" in rotated
    listed = mofang.good("keys", "list", "--project", "shop").out
    assert "in 1 h" in listed
    assert "digits, faces" in listed
    assert mofang.good("keys", "revoke", made["id"]).out == f"key {made['id']} of project shop is revoked everywhere\n"
    assert "revoked" in mofang.good("keys", "--project", "shop").out
    assert "acme" in mofang.good("tenants").out
    assert "shop" in mofang.good("projects", "list", "--json").out


def test_alerts_are_set_shown_and_switched_off(mofang: Terminal) -> None:
    made = mofang.good("budget", "set", "10", "requests", "--tenant", "default", "--json").json
    alert = mofang.good("budget", "alert", made["id"], "--at", "80", "--tell", "https://example.org/hook")
    assert "whsec_" in alert.out
    (shown,) = mofang.good("budget", "alert", made["id"], "--json").json["items"]
    assert (shown["percent"], shown["url"], shown["secret"]) == (80, "https://example.org/hook", "")
    assert mofang("budget", "alert", made["id"], "--at", "80", "--tell", "file:///x").err.startswith(
        "error[webhook.invalid]"
    )
    assert "--at and --tell go together" in mofang("budget", "alert", made["id"], "--at", "80").err
    assert mofang.good("budget", "alert", made["id"], "--off").out.startswith("nobody is told")
    mofang.good("budget", "remove", made["id"])


def test_shares_are_weighed(mofang: Terminal) -> None:
    assert "100 %" in mofang.good("limits", "weigh").out
    assert "250 %" in mofang.good("limits", "weigh", "default", "250").out
    assert {"tenant": "default", "weight": 250} in mofang.good("limits", "weigh", "--json").json["items"]
    assert "250 %" not in mofang.good("limits", "weigh", "default", "100").out
    assert "say how much" in mofang("limits", "weigh", "default").err
    assert mofang("limits", "weigh", "nobody", "50").err.startswith("error[tenant.not_found]")


def test_budgets_are_set_topped_up_and_removed(mofang: Terminal) -> None:
    assert mofang.good("budget").out.startswith("there are no budgets; `mofang budget set")
    made = mofang.good("budget", "set", "12.50", "EUR", "--tenant", "default", "--in-all", "--json").json
    assert (made["amount"], made["unit"], made["period"], made["spent"]) == (12_500_000, "EUR", "total", 0)
    assert mofang.good("budget", "set", "1000", "rows", "--project", "default").out.startswith(
        "project default cannot use more than this from now on"
    )
    assert "20.00 EUR now" in mofang.good("budget", "add", made["id"], "7.50").out
    shown = mofang.good("budget", "show").out
    assert "1,000  rows" in shown
    assert "20.00  EUR   in all" in shown
    assert "no whole number of rows" in mofang("budget", "set", "1.5", "rows", "--project", "default").err
    assert "finer than a micro-unit" in mofang("budget", "set", "0.0000001", "EUR", "--tenant", "default").err
    assert mofang("budget", "set", "1", "XYZW", "--tenant", "default").err.startswith("error[money.invalid]")
    mofang.good("budget", "remove", made["id"])
    assert [each["unit"] for each in mofang.good("budget", "--json").json["items"]] == ["rows"]
    assert mofang("budget", "add", made["id"], "1").err.startswith("error[budget.not_found]")


def test_limits_are_set_and_shown(mofang: Terminal) -> None:
    assert mofang.good("limits").out.startswith("nothing is limited; `mofang limits set")
    made = mofang.good(
        "limits", "set", "--tenant", "default", "--requests-per-minute", "6000", "--payload-bytes", "1500"
    )
    assert made.out.startswith("tenant default is held to these limits")
    shown = mofang.good("limits", "show").out.splitlines()
    assert shown[-1].split() == ["tenant", "default", "6,000", "-", "-", "-", "1.5", "kB"]
    assert mofang.good("limits", "--json").json["items"][0]["concurrency"] is None
    assert "name one of --project" in mofang("limits", "set", "--concurrency", "1").err
    assert "name one of --project" in mofang("limits", "set", "--project", "a", "--tenant", "b").err
    mofang.good("limits", "set", "--tenant", "default")
    assert mofang.good("limits", "--json").json["items"] == []


def test_identity_errors(mofang: Terminal) -> None:
    assert "error[project.not_found]" in mofang("keys", "create", "--project", "nobody").err
    assert mofang("keys", "revoke", "nothing").code == 5
    assert mofang("projects", "create", "default").code == 6
    assert mofang("keys", "create", "--project", "default", "--expires", "soon").code == 2


def test_usage_is_summed_and_listed(mofang: Terminal, site: Site) -> None:
    site.house.platform.identity.create_project("counted")
    site.house.usage("counted", "default", requests=3)
    ran = mofang.good("usage", "--by", "endpoint,digest", "--project", "counted")
    row = ran.out.splitlines()[2].split()
    assert row == ["digits", "a" * 12, "3", "30"]
    assert mofang.good("usage", "--from", "1h", "--json", "--project", "counted").json["items"][0]["quantities"] == {
        "requests": 3,
        "rows": 30,
    }
    lines = mofang.good("usage", "events", "--format", "jsonl", "--project", "counted").out.splitlines()
    events = [json.loads(line) for line in lines]
    assert len(events) == 6
    assert {event["request_id"] for event in events} == {f"req_counted_{n}" for n in range(3)}
    table = csv.DictReader(io.StringIO(mofang.good("usage", "events", "--format", "csv", "--project", "counted").out))
    assert [int(row["quantity"]) for row in table] == [event["quantity"] for event in events]
    clouds = [
        json.loads(line)
        for line in mofang.good("usage", "events", "--format", "cloudevents", "--project", "counted").out.splitlines()
    ]
    assert [each["data"] for each in clouds] == events
    assert {(each["specversion"], each["type"], each["subject"]) for each in clouds} == {
        ("1.0", "mofang.usage", "digits")
    }
    assert len({(each["source"], each["id"]) for each in clouds}) == 6
    assert datetime.fromisoformat(clouds[0]["time"]).timestamp() == pytest.approx(events[0]["at"] / 1e6)
    assert "req_counted_0" in mofang.good("usage", "events", "--project", "counted", "--limit", "2").out
    assert mofang.good("usage", "--project", "counted", "--from", "2020-01-01", "--to", "2020-01-02").out.splitlines()[
        1
    ] == ("nothing was used yet; `mofang predict ENDPOINT` is counted")
    assert mofang("usage", "--by", "colour").code == 2


def test_prices_and_invoices_to_the_micro_unit(mofang: Terminal, site: Site, tmp_path: Path) -> None:
    assert mofang("prices").code == 5
    assert "no price book yet" in mofang.good("prices", "list").out
    (tmp_path / "prices.toml").write_text(PRICES)
    published = mofang.good("prices", "set", str(tmp_path / "prices.toml")).out
    assert published.startswith("price book 1, published")
    assert "0.50 EUR" in published
    assert "0.01 EUR" in mofang.good("prices").out

    mofang.good("tenants", "create", "payer")
    mofang.good("projects", "create", "paid", "--tenant", "payer")
    site.house.usage("paid", "payer", requests=2)
    drawn = mofang.good("invoice", "create", "--tenant", "payer")
    # 2 requests at 0.50 a thousand, 20 rows at 0.01 for three: 0.001 + 0.066667
    assert "payer owes 0.067667 EUR" in drawn.out
    assert "0.001000 EUR" in drawn.out
    assert "0.066667 EUR" in drawn.out
    made = mofang.good("invoice", "list", "--tenant", "payer", "--json").json["items"][0]
    assert made["total_micros"] == 67_667
    assert "the same to the byte" in mofang.good("invoice", "verify", made["id"]).out
    assert mofang.good("invoice", "show", made["id"]).out == drawn.out
    assert mofang("invoice", "issue", made["id"]).code == 2
    assert mofang("invoice", "show", "inv_none").code == 5


def test_an_invoice_is_issued_traced_printed_and_credited(mofang: Terminal, site: Site, tmp_path: Path) -> None:
    (tmp_path / "prices.toml").write_text(PRICES)
    mofang.good("prices", "set", str(tmp_path / "prices.toml"), "--from", "2020-01-01")
    mofang.good("tenants", "create", "sent")
    site.house.usage("sent", "sent", requests=2, at=now_us() - 3_600_000_000)
    mofang.good("parties", "set", "--title", "Model Works", "--address", "1 High St\\nLondon")
    mofang.good("parties", "set", "--tenant", "sent", "--title", "Sent Ltd")
    assert "Model Works  1 High St, London" in mofang.good("parties").out
    made = mofang.good("invoice", "create", "--tenant", "sent", "--from", "3h", "--to", "1h", "--json").json
    issued = mofang.good("invoice", "issue", made["id"])
    assert issued.out.startswith("invoice INV-000001 (issued): sent owes")
    (line,) = [
        one for one in mofang.good("invoice", "show", made["id"], "--json").json["lines"] if one["quantity"] == 20
    ]
    events = mofang.good("invoice", "trace", made["id"], str(line["number"]), "--json").out.splitlines()
    assert [json.loads(event)["quantity"] for event in events] == [10, 10]
    assert "req_sent_0" in mofang.good("invoice", "trace", made["id"], str(line["number"])).out
    mofang.good("invoice", "print", made["id"], "-o", str(tmp_path / "invoice.html"))
    assert "Sent Ltd" in (tmp_path / "invoice.html").read_text()
    assert mofang.good("invoice", "print", made["id"], "--form", "csv").out.startswith("number,id,kind")
    assert "(paid)" in mofang.good("invoice", "pay", made["id"]).out
    assert mofang("invoice", "void", made["id"]).code == 6
    note = mofang.good("invoice", "credit", made["id"], "--reason", "a gift", "--line", f"{line['number']}=0.01").out
    assert note.startswith("credit note CN-000001 (issued): sent gets back 0.01 EUR")
    assert mofang("invoice", "credit", made["id"], "--reason", "more", "--line", "1=500").code == 2
    assert "the same to the byte" in mofang.good("invoice", "verify", made["id"]).out


def test_a_wrong_price_book_names_the_line(mofang: Terminal, tmp_path: Path) -> None:
    (tmp_path / "prices.toml").write_text(PRICES.replace("meter", "metre", 1))
    ran = mofang("prices", "set", str(tmp_path / "prices.toml"))
    assert ran.code == 2
    assert "error[prices.invalid]: line 4: [[price]] has no key 'metre'; did you mean 'meter'?" in ran.err


def test_audit_and_status(mofang: Terminal) -> None:
    mofang.good("projects", "create", "audited")
    records = mofang.good("audit", "list", "--json").json["items"]
    assert records[-1]["target"] == "audited"
    assert "none of them touched" in mofang.good("audit", "verify").out
    assert mofang.good("audit", "--after", str(records[-1]["seq"])).out == "no records after that one\n"
    status = mofang.good("status").out
    assert status.startswith("Mofang 0.1.0 at http://127.0.0.1:")
    assert "controller" in status


@pytest.mark.parametrize("topic", ["models", "runs", "jobs", "endpoints", "datasets", "invoice"])
def test_an_empty_list_says_what_fills_it(mofang: Terminal, topic: str) -> None:
    ran = mofang.good(topic, "list")
    assert ran.out.strip()
    assert mofang.good(topic, "list", "--json").json.keys() == {"items"}
