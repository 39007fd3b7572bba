"""`mofang deploy`, `rollout`, `rollback` and `endpoints`: which version answers under which name."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from mofang.base.domain.deployment import ROLLOUT_ENDED, Audience, Revision, Rollout
from mofang.base.domain.errors import DeadlineExceeded, InvalidRequest, NotFound, RolloutFailed
from mofang.base.domain.generation import TEXT_SIGNATURE
from mofang.base.domain.names import VersionRef, now_us
from mofang.surface.cli import format, screen
from mofang.surface.cli.progress import Board, board, goes_on
from mofang.surface.cli.session import Session
from mofang.surface.cli.verbs import topic, verb

if TYPE_CHECKING:
    from mofang.surface.sdk.deploy import EndpointDetail

ROLLOUT_JSON = (
    "id, endpoint, from_revision (0: none), to_revision, state (pending, starting, switching, draining, done, failed), "
    "reason, is_rollback, created_at, ended_at"
)
REVISION_JSON = (
    "number, model, version, variant, digest, engine, signature, placement, replicas, limits, options, adapters, "
    "created_at"
)
STEPS = ("pending", "starting", "switching", "draining", "done")
POLL_SECONDS = 1.0

WAIT = click.option("--wait/--no-wait", default=True, show_default=True, help="Return when the switch is done.")
TIMEOUT = click.option("--timeout", default="5min", show_default=True, metavar="SPAN", help="How long to wait.")
PLACEMENT = click.option("--placement", type=click.Choice(["process", "thread"]), help="Where it computes.")
REPLICAS = click.option("--replicas", type=click.IntRange(1, 64), help="How many compute side by side.")


MAX_BATCH = click.option("--max-batch", type=click.IntRange(1, 65_536), metavar="ROWS", help="Most rows of a batch.")
MAX_WAIT = click.option(
    "--max-wait-us", type=click.IntRange(0, 60_000_000), metavar="US", help="Longest wait for a fuller batch; 0: none."
)
PREFER = click.option("--prefer", default="", metavar="ROWS,...", help="Sizes of batches that the model computes best.")


CACHE = click.option(
    "--cache-mb",
    type=click.IntRange(0, 1 << 20),
    metavar="MB",
    help="Memory to answer the same again from; 0: none.",
)


@verb(
    "deploy",
    example="mofang deploy digits --wait\nmofang deploy reader digits@1 --replicas 2 --wait\n"
    "mofang deploy digits digits@2 --variant 'fastest within 0.5 points'",
    json=f"One object, the rollout: {ROLLOUT_JSON}.",
)
@click.argument("endpoint")
@click.argument("version", metavar="[MODEL[@VERSION]]", default="")
@click.option("--variant", default="", metavar="NAME|POLICY", help="A variant of it, or the best: see the example.")
@PLACEMENT
@REPLICAS
@MAX_BATCH
@MAX_WAIT
@PREFER
@CACHE
@click.option("--pad", multiple=True, metavar="INPUT=VALUE", help="Lengths may differ in a batch: see the reference.")
@click.option("--no-pad", is_flag=True, help="Without the padding it has.")
@click.option("--on-demand/--always", default=None, help="Load it when it is asked, or keep it loaded.")
@click.option("--option", "options", multiple=True, metavar="NAME=VALUE", help="Of the engine, e.g. context=4096.")
@click.option("--adapter", "adapters", multiple=True, metavar="NAME=VERSION", help="Asked as ENDPOINT:NAME.")
@click.option("--no-adapters", is_flag=True, help="Without the adapters it has.")
@click.option("--tuned", is_flag=True, help="Run it as `mofang tune` found best.")
@click.option("--private", is_flag=True, help="A new endpoint is for its own project; left out: for everyone.")
@WAIT
@TIMEOUT
@click.pass_obj
def deploy(
    session: Session,
    endpoint: str,
    version: str,
    variant: str,
    placement: Any,
    replicas: int | None,
    max_batch: int | None,
    max_wait_us: int | None,
    prefer: str,
    cache_mb: int | None,
    pad: tuple[str, ...],
    no_pad: bool,
    on_demand: bool | None,
    tuned: bool,
    options: tuple[str, ...],
    adapters: tuple[str, ...],
    no_adapters: bool,
    private: bool,
    wait: bool,
    timeout: str,
) -> None:
    """Serve a version under an endpoint's name.

    Left out, the version is the newest; `mofang deploy NAME` names the endpoint after the model. An endpoint that
    answers already is switched without a request lost.
    """
    if not version:
        endpoint, version = VersionRef.parse(endpoint).model, endpoint
    limits: dict[str, Any] = {"max_batch_rows": max_batch, "max_wait_us": max_wait_us, "preferred_rows": _sizes(prefer)}
    limits["on_demand"], limits["pad"] = on_demand, {} if no_pad else _pairs(pad)
    limits["cache_bytes"] = None if cache_mb is None else cache_mb << 20
    given = {name: value for name, value in limits.items() if value is not None}
    rollout = session.client.deploy.roll_out(
        endpoint,
        version,
        variant=variant,
        placement=placement,
        replicas=replicas,
        limits=given,
        tuned=tuned,
        private=private,
        options=_pairs(options),
        adapters={} if no_adapters else _pairs(adapters),
        wait=False,
    )
    _finish(session, rollout, wait, timeout)


@verb(
    "rollout",
    example="mofang rollout digits digits@2\nmofang rollout digits",
    json=f"One object, the rollout: {ROLLOUT_JSON}.",
)
@click.argument("endpoint")
@click.argument("version", metavar="[MODEL@VERSION]", default="")
@WAIT
@TIMEOUT
@click.pass_obj
def rollout(session: Session, endpoint: str, version: str, wait: bool, timeout: str) -> None:
    """Switch an endpoint that answers to another version; without a version, watch its newest rollout.

    The new version is loaded and warmed up first; if it is refused, the old one serves on.
    """
    found = session.client.deploy.get_endpoint(endpoint)
    newest = found.rollouts[0]
    started = session.client.deploy.roll_out(endpoint, version, wait=False) if version else newest
    _finish(session, started, wait, timeout)


@verb(
    "rollback",
    example="mofang rollback digits\nmofang rollback digits --to 1",
    json=f"One object, the rollout: {ROLLOUT_JSON}.",
)
@click.argument("endpoint")
@click.option("--to", "revision", type=click.IntRange(1), help="The revision; left out: the one before.")
@WAIT
@TIMEOUT
@click.pass_obj
def rollback(session: Session, endpoint: str, revision: int | None, wait: bool, timeout: str) -> None:
    """Switch an endpoint back to an earlier revision, without a request lost."""
    started = session.client.deploy.roll_back(endpoint, revision, wait=False)
    _finish(session, started, wait, timeout)


def _sizes(text: str) -> list[int] | None:
    """Read ``8,16``; none: what is there already."""
    if not text:
        return None
    parts = text.split(",")
    if not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise InvalidRequest(f"--prefer takes numbers of rows, as 8,16, not {text!r}")
    return [int(part) for part in parts]


def _pairs(texts: Sequence[str]) -> dict[str, str] | None:
    """Read NAME=VALUE; None if there are none, so that they stay as they are."""
    pairs = [text.partition("=") for text in texts]
    if wrong := [name for name, equals, _ in pairs if not (name and equals)]:
        raise click.BadParameter(f"{wrong[0]!r} is not NAME=VALUE")
    return {name: value for name, _, value in pairs} or None


def _finish(session: Session, rollout: Rollout, wait: bool, timeout: str) -> None:
    """Watch a rollout if asked to, then say what it came to; raise RolloutFailed if it was refused."""
    if wait:
        watch = f"`mofang rollout {rollout.endpoint}`"
        with goes_on(f"rollout {rollout.id}", watch, "`mofang rollback` undoes it"), board(session) as shown:
            rollout = _watch(session, rollout, shown, format.parse_span(timeout))
    if rollout.state == "failed":
        hint = f"the old version serves on; `mofang endpoints show {rollout.endpoint}` tells the rest"
        raise RolloutFailed(rollout.reason or f"rollout {rollout.id} failed", hint=hint)
    session.answer(rollout, lambda: _draw_rollout(session, rollout))


def _watch(session: Session, rollout: Rollout, shown: Board, timeout_seconds: float) -> Rollout:
    until = time.monotonic() + timeout_seconds
    while rollout.state not in ROLLOUT_ENDED:
        shown.show("rollout", STEPS.index(rollout.state) / (len(STEPS) - 1), rollout.state)
        if time.monotonic() > until:
            hint = f"it goes on; `mofang rollout {rollout.endpoint}` watches it again"
            raise DeadlineExceeded(f"rollout {rollout.id} is still {rollout.state}", hint=hint)
        rollout = session.client.deploy.get_rollout(rollout.id, wait_seconds=POLL_SECONDS)
    if rollout.state == "done":
        shown.show("rollout", 1.0, "done")
    return rollout


def _draw_rollout(session: Session, rollout: Rollout) -> None:
    detail = session.client.deploy.get_endpoint(rollout.endpoint)
    revision = next((r for r in detail.revisions if r.number == rollout.to_revision), None)
    what = revision.ref if revision else f"revision {rollout.to_revision}"
    took = format.duration((rollout.ended_at - rollout.created_at) / 1e6) if rollout.ended_at else ""
    done = f"{rollout.endpoint} answers with {what}" + (f" after {took}" if took else "")
    going = f"{rollout.endpoint} is switching to {what} ({rollout.state})"
    screen.heading(done if rollout.state == "done" else going)
    speaks = revision is not None and revision.signature == TEXT_SIGNATURE
    before = f" (before: revision {rollout.from_revision})" if rollout.from_revision else ""
    screen.fields(
        [
            ("revision", f"{rollout.to_revision}{before}"),
            ("digest", revision.digest if revision else ""),
            ("takes", "\n".join(map(str, revision.signature.inputs)) if revision else ""),
            ("gives", "\n".join(map(str, revision.signature.outputs)) if revision else ""),
            ("url", f"{session.connection.url}{_path(rollout.endpoint, speaks)}"),
            ("rollout", rollout.id),
        ]
    )
    if rollout.from_revision:
        screen.then(f"mofang rollback {rollout.endpoint}", f"mofang endpoints show {rollout.endpoint}")
    elif speaks:
        screen.then("mofang keys create --project P", f"mofang chat {rollout.endpoint}")
    else:
        name = revision.signature.inputs[0].name if revision else "NAME"
        screen.then("mofang keys create --project P", f"mofang predict {rollout.endpoint} --input {name}=@rows.json")


def _path(endpoint: str, speaks: bool) -> str:
    return "/v1" if speaks else f"/v2/models/{endpoint}/infer"


endpoints = topic("endpoints", "Endpoints: the names clients ask, and what answers.", usual="list")


@endpoints.verb(
    "list",
    example="mofang endpoints list",
    json=f"{{items}}, each: endpoint (name, active_revision, created_at), active ({REVISION_JSON}), rollout.",
)
@click.pass_obj
def list_endpoints(session: Session) -> None:
    """List endpoints by name."""
    found = session.client.deploy.list_endpoints()
    now = now_us()
    rows = []
    for item in found:
        active, last = item.active, item.rollout
        serving = (active.ref, active.number, active.replicas, active.placement) if active else ()
        state = "serving" if not last or last.state == "done" else f"rollout {last.state}"
        rows.append((item.endpoint.name, *(serving or ("-",) * 4), state, format.ago(item.endpoint.created_at, now)))
    heads = ("endpoint", "version", ">revision", ">replicas", "placement", "state", "created")
    empty = "no endpoints yet; `mofang deploy MODEL` makes one"
    session.answer_list(found, lambda: screen.table(heads, rows, empty=empty))


@endpoints.verb(
    "show",
    example="mofang endpoints show digits",
    json=f"One object: endpoint, active and revisions (each: {REVISION_JSON}), rollouts ({ROLLOUT_JSON}), replicas, "
    "audience (everyone, tenants, projects).",
)
@click.argument("name")
@click.pass_obj
def show(session: Session, name: str) -> None:
    """Show an endpoint: the signature it takes, its replicas, revisions and rollouts."""
    found = session.client.deploy.get_endpoint(name)
    chosen = _chosen(session, found.active)
    session.answer(found, lambda: _draw_endpoint(session, found, chosen))


def _chosen(session: Session, active: Revision | None) -> str:
    """Say why the engine of a revision was chosen, where several can compute its version."""
    if active is None:
        return ""
    try:
        choice = session.client.register.get_version(active.ref).lineage.choice
    except NotFound:  # a version of another project, shared
        return ""
    return choice.why if choice else ""


@endpoints.verb(
    "share",
    example="mofang endpoints share digits --tenant acme --project lab\n"
    "mofang endpoints share digits --everyone\n"
    "mofang endpoints share digits",
    json="One object: everyone, tenants, projects.",
)
@click.argument("name")
@click.option("--everyone", is_flag=True, help="Any key of any tenant.")
@click.option("--tenant", "tenants", multiple=True, metavar="NAME", help="All projects of a tenant.")
@click.option("--project", "projects", multiple=True, metavar="NAME", help="One project.")
@click.pass_obj
def share(session: Session, name: str, everyone: bool, tenants: tuple[str, ...], projects: tuple[str, ...]) -> None:
    """Say who may ask an endpoint besides its own project; for all others it does not exist."""
    found = session.client.deploy.share(name, everyone=everyone, tenants=tenants, projects=projects)
    session.answer(found, lambda: screen.heading(f"{name} is for {_for_whom(found)}"))


@endpoints.verb("delete", example="mofang endpoints delete digits", json="One object: deleted (the name).")
@click.argument("name")
@click.pass_obj
def delete(session: Session, name: str) -> None:
    """Take an endpoint away; versions, usage and invoices stay."""
    session.client.deploy.delete(name)
    session.answer({"deleted": name}, lambda: screen.heading(f"{name} is no endpoint any more; its versions stay"))


def _draw_endpoint(session: Session, found: EndpointDetail, chosen: str) -> None:
    name, active, now = found.endpoint.name, found.active, now_us()
    screen.heading(f"endpoint {name}" + (f" answers with {active.ref}" if active else ": no answer yet"))
    if active:
        screen.fields(
            [
                ("revision", active.number),
                ("digest", active.digest),
                ("engine", f"{active.engine}: {chosen}" if chosen else active.engine),
                ("takes", "\n".join(map(str, active.signature.inputs))),
                ("gives", "\n".join(map(str, active.signature.outputs))),
                ("adapters", "\n".join(f"{name}: {it.version}" for name, it in active.adapters.items())),
                ("options", " ".join(f"{option}={value}" for option, value in active.options.items()) or "as usual"),
                ("measured", _measured(active)),
                ("placement", f"{active.placement}, {active.replicas} replica{'s' if active.replicas > 1 else ''}"),
                ("url", f"{session.connection.url}/v2/models/{name}/infer"),
                ("for", _for_whom(found.audience)),
            ]
        )
    _draw_replicas(found.replicas)
    screen.say()
    mark = {r.number: "serving" if active and r.number == active.number else "" for r in found.revisions}
    screen.table(
        ("  revision", "version", "digest", "state", "made"),
        [
            (f"  {r.number}", r.ref, format.short_digest(r.digest), mark[r.number], _when(r, now))
            for r in found.revisions
        ],
    )
    screen.say()
    screen.table(
        ("  rollout", "from", "to", "state", "reason", "started"),
        [
            (f"  {r.id}", r.from_revision or "-", r.to_revision, r.state, r.reason, _when(r, now))
            for r in found.rollouts
        ],
    )


def _measured(revision: Revision) -> str:
    found = revision.calibration
    if found is None:
        return "nothing"
    return f"{found.threads} thread{'s' if found.threads > 1 else ''}, {format.duration(found.row_us / 1e6)} a row"


def _for_whom(audience: Audience) -> str:
    if audience.everyone:
        return "everyone who has a key"
    named = [f"tenant {name}" for name in audience.tenants] + [f"project {name}" for name in audience.projects]
    return ", ".join(["its own project", *named])


def _draw_replicas(replicas: list[Mapping[str, Any]]) -> None:
    if not replicas:
        return
    screen.say()
    names = [*dict.fromkeys(key for replica in replicas for key in replica)]
    rows = [[f"  {_cell(replica.get(names[0]))}", *(_cell(replica.get(n)) for n in names[1:])] for replica in replicas]
    screen.table([f"  replica {names[0]}", *names[1:]], rows)


def _cell(value: Any) -> str:
    return "-" if value in (None, "") else str(value)


def _when(item: Any, now: int) -> str:
    return format.ago(item.created_at, now)
