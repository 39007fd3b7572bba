"""`make demo`: a model's whole life, from data to an invoice, by the real commands; each is shown as it is typed.

Leaves the server running and says how to go on; ``--once`` stops everything and exits 1 if any step fell short.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import click
import numpy as np
from load import Load, Tally
from numpy.typing import NDArray

from mofang.surface.cli import format

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / ".demo"
BUDGET_SECONDS = 180.0
GATE_FAILED, WRONG, UNKNOWN_KEY = 6, 2, 3  # exit codes


class Tour:
    """Types commands, watches how they end, and remembers what fell short."""

    def __init__(self) -> None:
        self.environment = {**os.environ, "MOFANG_DATA": str(DATA)}
        for name in ("MOFANG_URL", "MOFANG_API_KEY", "MOFANG_GRPC"):
            self.environment.pop(name, None)
        self.short: list[str] = []
        self.started = time.monotonic()

    def step(self, number: int, title: str) -> None:
        """Open a step."""
        passed = f"{time.monotonic() - self.started:.0f} s"
        click.echo(
            f"\n{click.style(f'── {number}. {title}', fg='cyan', bold=True)} {click.style(f'({passed})', dim=True)}"
        )

    def type(self, *words: str, exits: int = 0, key: str = "") -> None:
        """Run a command where everybody sees it; ``exits`` is the exit code it should have."""
        click.echo(click.style(f"\n$ mofang {' '.join(map(_shown, words))}", bold=True))
        environment = {**self.environment, **({"MOFANG_API_KEY": key} if key else {})}
        code = subprocess.run(_command(*words), cwd=ROOT, env=environment).returncode
        self.check(code == exits, f"`mofang {' '.join(words)}` exited with {code}, not {exits}")
        if exits and code == exits:
            click.echo(click.style(f"(exit code {code}, as it should be)", dim=True))

    def look(self, *words: str) -> Any:
        """Run a command for its JSON, unseen."""
        done = subprocess.run(
            _command(*words, "--json"), cwd=ROOT, env=self.environment, capture_output=True, text=True
        )
        if done.returncode:
            raise FellShort(f"`mofang {' '.join(words)}` failed: {done.stderr.strip()}")
        return json.loads(done.stdout)

    def check(self, holds: bool, otherwise: str) -> None:
        """Remember what fell short."""
        if not holds:
            self.short.append(otherwise)
            click.echo(click.style(f"fell short: {otherwise}", fg="red"))

    def note(self, text: str) -> None:
        """Say something between commands."""
        click.echo(text)


class FellShort(Exception):
    """A step failed such that the next ones make no sense."""


def _command(*words: str) -> list[str]:
    return [sys.executable, "-m", "mofang.surface.cli", *words]


def _shown(word: str) -> str:
    return f"'{word}'" if " " in word or "[" in word else word


def start(tour: Tour) -> None:
    """Step 1: a server on a fresh data directory."""
    tour.step(1, "a server: gateway, controller, workers")
    subprocess.run(_command("down"), cwd=ROOT, env=tour.environment, capture_output=True)
    shutil.rmtree(DATA, ignore_errors=True)
    tour.note(f"$ export MOFANG_DATA={DATA}")
    addresses = [word for name, port in (("--http", 8080), ("--grpc", 8081)) for word in _address(name, port)]
    tour.type("up", "--detach", *addresses)
    if not (DATA / "run.json").exists():
        raise FellShort("the server did not start")
    tour.check((DATA / "admin.key").stat().st_mode & 0o777 == 0o600, "admin.key can be read by others")


def _address(name: str, port: int) -> list[str]:
    """Ask for a free port where the usual one is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return [name, "127.0.0.1:0"] if probe.connect_ex(("127.0.0.1", port)) == 0 else []


def make(tour: Tour) -> None:
    """Steps 2 to 5: train, convert, evaluate, register; and a model that is not good enough."""
    tour.step(2, "a recipe becomes a model: prepare, train, convert to ONNX, evaluate, register")
    tour.type("train", "examples/digits.toml")
    tour.step(3, "its curve, digest and parity proof; its report and confusion matrix")
    confusion, card = ".demo/confusion.svg", ".demo/card.md"
    tour.type("runs", "show", "--confusion", confusion, "--card", card)
    run = tour.look("runs", "show")
    proof = run["conversion"]
    tour.check(len(run["curve"]) > 1, "the curve has no points")
    tour.check(bool(proof["passed"]) and proof["labels_equal"] == proof["rows"], f"parity was not proved: {proof}")
    tour.check(all((ROOT / path).stat().st_size > 0 for path in (confusion, card)), "picture or model card is empty")
    tour.step(4, "a gate holds back a model that is not good enough")
    tour.type("train", "examples/digits-weak.toml", exits=GATE_FAILED)
    tour.step(5, "a second, better version")
    tour.type("train", "examples/digits-better.toml")
    tour.type("promote", "digits@2", "champion")
    tour.type("versions", "list", "digits")
    second, first = tour.look("versions", "list", "digits")["items"]
    tour.check(second["metrics"]["accuracy"] > first["metrics"]["accuracy"], "the second version is not better")
    tour.check(all(first["lineage"][part] for part in ("run", "dataset", "recipe", "code")), "lineage is incomplete")
    tour.check(
        second["aliases"] == ["champion"] and first["digest"] != second["digest"], "versions are not as they should be"
    )


def serve(tour: Tour, features: NDArray[np.float32]) -> str:
    """Step 6: an endpoint, a project's key, good and bad requests; return the key."""
    tour.step(6, "version 1 behind an endpoint, asked with a project's key over REST and gRPC")
    tour.type("prices", "set", "examples/prices.toml")
    tour.type("deploy", "digits", "digits@1", "--wait")
    tour.type("projects", "create", "shop")
    tour.note(click.style("\n$ mofang keys create --project shop --name demo --json", bold=True))
    made = tour.look("keys", "create", "--project", "shop", "--name", "demo")
    tour.note(json.dumps(made, indent=2))
    (DATA / "row.json").write_text(json.dumps(features[0].tolist()))
    row = ("predict", "digits", "--input", "features=@.demo/row.json")
    tour.note(f"\n$ export MOFANG_API_KEY={made['key']}")
    tour.type(*row, key=made["key"])
    tour.type(*row, "--protocol", "grpc", key=made["key"])
    tour.type(*row, "--key", made["key"][:-1] + ("a" if made["key"][-1] != "a" else "b"), exits=UNKNOWN_KEY)
    tour.type("predict", "digits", "--input", "features=[[1, 2, 3]]", exits=WRONG, key=made["key"])
    return str(made["key"])


def switch(tour: Tour, features: NDArray[np.float32], key: str) -> Tally:
    """Step 7: to version 2 and back under load; return what the clients got."""
    tour.step(7, "to version 2 and back, under load, without one failed request")
    about = json.loads((DATA / "run.json").read_text())
    with Load("digits", features, url=about["http"], grpc=about["grpc"], key=key) as load:
        started = time.monotonic()
        load.wait_for(500)
        tour.type("rollout", "digits", "digits@2")
        forward = time.monotonic()
        load.wait_for(500)
        after_forward = load.tally.versions(forward)
        tour.type("rollback", "digits")
        backward = time.monotonic()
        load.wait_for(500)
        after_backward = load.tally.versions(backward)
    tally, seconds = load.tally, time.monotonic() - started
    versions = ", ".join(f"{format.count(n)} by version {v}" for v, n in sorted(tally.versions().items()))
    protocols = " and ".join(f"{format.count(n)} over {name}" for name, n in sorted(tally.protocols().items()))
    tour.note(
        f"\n8 clients got {format.count(len(tally.answers))} answers ({protocols}) in {format.duration(seconds)}, "
        f"{len(tally.answers) / seconds:,.0f}/s\n"
        f"  answered: {versions}\n"
        f"  latency:  p50 {format.duration(tally.percentile(0.5))}, p99 {format.duration(tally.percentile(0.99))}\n"
        f"  failed:   {len(tally.failures)}"
    )
    tour.check(not tally.failures, f"{len(tally.failures)} requests failed, e.g. {tally.failures[:1]}")
    tour.check(set(after_forward) == {2}, f"after the rollout versions answered: {dict(after_forward)}")
    tour.check(set(after_backward) == {1}, f"after the rollback versions answered: {dict(after_backward)}")
    tour.check(min(tally.protocols().values(), default=0) > 100, f"too few answers: {dict(tally.protocols())}")
    return tally


def sell(tour: Tour, tally: Tally) -> None:
    """Step 8: what that cost, exactly, and the proof that nobody touched the books."""
    tour.step(8, "what that cost, to the micro-unit, per version digest")
    tour.type("usage")
    tour.type("invoice", "create", "--from", "24h")
    (invoice, *_) = tour.look("invoice", "list")["items"]
    tour.type("invoice", "verify", invoice["id"])
    tour.type("usage", "events", "--limit", "4")
    tour.type("audit", "verify")
    rows = tour.look("usage", "--by", "version,digest", "--project", "shop")["items"]
    counted = {int(row["by"]["version"]): row["quantities"]["requests"] for row in rows}
    got = tally.versions() + Counter({1: 2})  # the two of step 6
    tour.check(counted == dict(got), f"usage counted {counted}, clients got {dict(got)}")
    digests = {row["by"]["digest"] for row in rows}
    billed = {part["digest"] for line in invoice["lines"] for part in line["parts"]}
    tour.check(billed == digests, "invoice and usage name other digests")
    total = sum(line["amount_micros"] for line in invoice["lines"])
    tour.check(invoice["total_micros"] == total > 0, f"the invoice's total is {invoice['total_micros']}, not {total}")


def read_rows(source: str) -> NDArray[np.float32]:
    """Read some rows that no model was trained on from where the recipe's data came from."""
    scheme, _, place = source.partition(":")
    if scheme == "idx":
        with gzip.open(Path(place) / "t10k-images-idx3-ubyte.gz") as file:
            pixels = np.frombuffer(file.read(16 + 512 * 784), np.uint8, offset=16)
        return pixels.reshape(512, 784).astype(np.float32)
    from sklearn.datasets import load_digits

    return np.asarray(load_digits().data[-512:], np.float32)


def leave(tour: Tour, once: bool, key: str) -> None:
    """Step 9: say how to go on, or stop everything."""
    seconds = time.monotonic() - tour.started
    if once:
        tour.step(9, "stop")
        tour.type("down")
    elif not key:
        tour.note("\n`mofang down --data .demo` stops the server, if it runs")
    else:
        tour.step(9, "yours to go on")
        about = json.loads((DATA / "run.json").read_text())
        tour.note(
            f"The server runs on {about['http']} (gRPC {about['grpc']}), its data is in {DATA}\n"
            f"  the project's key  {key}\n"
            f"  the admin's key    {DATA / 'admin.key'}\n\n"
            f"  export MOFANG_DATA={DATA} PATH={ROOT / '.venv/bin'}:$PATH\n"
            "  mofang status                         what runs\n"
            "  mofang endpoints show digits          revisions and rollouts\n"
            "  mofang compress digits@2              a smaller variant, measured\n"
            "  mofang push NAME model.onnx           a model of your own\n"
            "  mofang --help                         everything else\n"
            "  mofang down                           stop it"
        )
    tour.check(seconds < BUDGET_SECONDS, f"it took {seconds:.0f} s, more than {BUDGET_SECONDS:.0f} s")
    for short in tour.short:
        click.echo(click.style(f"fell short: {short}", fg="red"), err=True)
    done = f"\nnine steps in {format.duration(seconds)}" + (
        f"; {len(tour.short)} things fell short" if tour.short else ""
    )
    click.echo(click.style(done, bold=True, fg="red" if tour.short else "green"))


def main() -> int:
    """Run the demo; return 1 if something fell short."""
    parser = argparse.ArgumentParser(description="A model's whole life, with the real commands.")
    parser.add_argument("--once", action="store_true", help="stop everything at the end")
    once = parser.parse_args().once
    tour, key = Tour(), ""
    try:
        start(tour)
        make(tour)
        features = read_rows(tour.look("datasets", "list")["items"][0]["source"])
        key = serve(tour, features)
        sell(tour, switch(tour, features, key))
    except (FellShort, KeyError, ValueError, OSError) as error:
        tour.check(False, f"{type(error).__name__}: {error}")
    except KeyboardInterrupt:
        tour.check(False, "interrupted")
    leave(tour, once, key)
    return 1 if tour.short else 0


if __name__ == "__main__":
    sys.exit(main())
