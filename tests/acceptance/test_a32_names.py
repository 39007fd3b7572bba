"""A32: traversal and injection, where a name or a path is expected, by every way in: refused, nothing made or read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from nets import scaled
from tritonclient.grpc import service_pb2 as pb
from wires import Refusal, call, request, talk

from mofang.surface.cli.main import run
from servers import Server
from watch import Watch

CANARY = "canary-that-nobody-reads"
OUTSIDE = "../../../canary"  # from any folder of the data directory
HOSTILE = (
    "..", ".", OUTSIDE, "..%2f..%2fcanary", "%2e%2e", "/etc/passwd", "file:///etc/passwd", "a/../b", "a\\..\\b",
    "' OR 1=1 --", '"; DROP TABLE api_keys; --', "1; SELECT 1", "%", "*", "{{7*7}}", "${7*7}", "$(id)", "`id`", "|id",
    "a\0b", "a\r\nx-evil: 1", "\u202e", "ａ", "💥", "a" * 64, "a" * 5000, "-a", "_a", "a-", "a..b", "A", " ",
    "<script>", "a?b=c", "a#b", "a;b", "a&b=c",
)  # fmt: skip
HARMLESS = tuple(text for text in HOSTILE if "\0" not in text)  # what a command line can hold


@pytest.fixture(scope="module")
def canary(server: Server) -> Iterator[Path]:
    """A file beside the data directory, which nobody may open; the kernel says whether anybody has."""
    file = server.data.parent / "canary"
    file.write_text(CANARY)
    watch = Watch(file)
    yield file
    assert watch.seen() == 0, "somebody has opened the canary"
    assert file.read_text() == CANARY
    assert watch.seen() >= 2, "the watch would have seen it"
    watch.close()


@pytest.fixture(scope="module")
def serving(server: Server, canary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with one model behind one endpoint; afterwards there is nothing more, inside or beside it."""
    server.serve("scale", scaled(tmp_path_factory.mktemp("model"), 2))
    beside, made = neighbours(server), everything(server)
    yield server
    assert neighbours(server) == beside
    assert everything(server) == made
    assert server.client.audit.verify().records > 0


def neighbours(server: Server) -> set[str]:
    """What lies beside the data directory, but for the folders of tests."""
    return {path.name for path in server.data.parent.iterdir() if not path.name.startswith("test_")}


def everything(server: Server) -> dict[str, object]:
    """All that has a name."""
    client = server.client
    return {
        "models": client.register.list_models(),
        "endpoints": [(entry.endpoint.name, entry.active) for entry in client.deploy.list_endpoints()],
        "projects": client.identity.list_projects(),
        "tenants": client.identity.list_tenants(),
        "keys": client.identity.list_keys(),
        "uploads": list((server.data / "uploads").iterdir()),
        "jobs": [job.id for job in client.jobs.list()],
        "books": client.bill.list_prices(),
        "invoices": client.bill.list_invoices(),
    }


def encoded(text: str) -> str:
    return quote(text, safe="").replace(".", "%2E")  # else httpx would walk the path itself


@pytest.mark.parametrize(
    ("method", "template"),
    [
        ("GET", "/v2/models/{}"),
        ("GET", "/v2/models/{}/ready"),
        ("POST", "/v2/models/{}/infer"),
        ("GET", "/v2/models/scale/versions/{}"),
        ("POST", "/v2/models/scale/versions/{}/infer"),
    ],
)
def test_the_inference_protocol(serving: Server, method: str, template: str) -> None:
    headers = {"authorization": f"Bearer {serving.key}"}
    with httpx.Client(base_url=serving.url, headers=headers) as client:
        for text in HOSTILE:
            answer = client.request(method, template.format(encoded(text)))
            assert answer.status_code in (400, 404, 405), (text, answer.text)
            assert answer.json()["code"]
            assert "x-evil" not in answer.headers
            assert CANARY not in answer.text


@pytest.mark.parametrize(
    "path", [f"/{OUTSIDE}", f"/v2/models/{OUTSIDE}", f"/api/v1/{OUTSIDE}", "//etc/passwd", "/v2/.."]
)
def test_raw_paths(serving: Server, path: str) -> None:
    answer = talk(serving, request(path, None, f"Authorization: Bearer {serving.key}"))
    assert answer.status in (400, 404)
    assert answer.code


BODIES: dict[tuple[str, str], tuple[str, dict[str, object]]] = {
    ("POST", "/projects"): ("name", {}),
    ("POST", "/tenants"): ("name", {}),
    ("POST", "/keys"): ("project", {}),
    ("PUT", "/endpoints/other"): ("version", {}),
    ("POST", "/variants"): ("version", {"max_drop": 0.1}),
    ("POST", "/evaluations"): ("version", {"dataset": "", "gate": ""}),
    ("POST", "/invoices"): ("tenant", {"from": 0, "to": 3_600_000_000}),
}
PATHS = (
    ("GET", "/models/{}", None),
    ("GET", "/models/{}/versions", None),
    ("GET", "/models/scale/versions/{}", None),
    ("POST", "/models/{}/versions", {"files": [{"path": "a", "sha256": "0" * 64, "size_bytes": 1}]}),
    ("PUT", "/models/{}/aliases/champion", {"version": 1}),
    ("PUT", "/models/scale/aliases/{}", {"version": 1}),
    ("PUT", "/endpoints/{}", {"version": "scale@1"}),
    ("GET", "/endpoints/{}", None),
    ("DELETE", "/endpoints/{}", None),
    ("POST", "/endpoints/{}/rollback", {}),
    ("GET", "/datasets/{}", None),
    ("GET", "/runs/{}", None),
    ("GET", "/evaluations/{}/card.md", None),
    ("GET", "/jobs/{}/events", None),
    ("POST", "/jobs/{}/cancel", None),
    ("GET", "/rollouts/{}", None),
    ("DELETE", "/keys/{}", None),
    ("GET", "/invoices/{}/verify", None),
)
FILTERS = ("/variants?version={}", "/evaluations?version={}", "/keys?project={}", "/usage?by={}",
           "/jobs?state={}", "/usage/events?project={}", "/usage?project={}", "/invoices?tenant={}",
           "/usage?from={}", "/usage/events?limit={}")  # fmt: skip


def refused(client: httpx.Client, method: str, path: str, body: object) -> None:
    answer = client.request(method, f"/api/v1{path}", json=body)
    assert 400 <= answer.status_code < 500, (method, path, body, answer.text)
    assert "x-evil" not in answer.headers
    assert CANARY not in answer.text


def test_the_control_api(serving: Server) -> None:
    headers = {"authorization": f"Bearer {serving.key}"}
    with httpx.Client(base_url=serving.url, headers=headers, timeout=30) as client:
        for text in HOSTILE:
            for method, template, body in PATHS:
                refused(client, method, template.format(encoded(text)), body)
            for (method, path), (field, rest) in BODIES.items():
                refused(client, method, path, {field: text, **rest})
            for template in FILTERS:
                refused(client, "GET", template.format(encoded(text)), None)


@pytest.mark.parametrize(
    "path", ["..", OUTSIDE, "/etc/cron.d/x", "a/../../b", "a\\..\\b", "./x", "a//b", "a\nb", "a\0"]
)
def test_paths_in_a_manifest(serving: Server, path: str) -> None:
    files = [{"path": name, "sha256": "0" * 64, "size_bytes": 1} for name in ("model.onnx", path)]
    headers = {"authorization": f"Bearer {serving.key}"}
    answer = httpx.post(f"{serving.url}/api/v1/models/evil/versions", json={"files": files}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) in ((400, "path.invalid"), (400, "request.malformed"))


def test_grpc(serving: Server) -> None:
    key = ("authorization", f"Bearer {serving.key}")
    for text in HOSTILE:
        for method, message in (
            ("ModelInfer", pb.ModelInferRequest(model_name=text)),
            ("ModelInfer", pb.ModelInferRequest(model_name="scale", model_version=text)),
            ("ModelMetadata", pb.ModelMetadataRequest(name=text)),
            ("ModelReady", pb.ModelReadyRequest(name="scale", version=text)),
        ):
            refusal = call(serving, method, message.SerializeToString(), key)
            assert isinstance(refusal, Refusal), (method, text)
            assert refusal.status in ("INVALID_ARGUMENT", "NOT_FOUND"), (method, text, refusal)
            assert CANARY not in refusal.details


@pytest.mark.parametrize(
    "words",
    [
        ("models", "show"), ("versions", "list"), ("versions", "show"), ("evaluate",), ("compress",),
        ("endpoints", "show"), ("endpoints", "delete"), ("deploy", "other"), ("deploy",), ("rollback",), ("promote",),
        ("promote", "scale@1"), ("predict", "--input", "x=[[1,2,3,4]]"), ("datasets", "show"), ("runs", "show"),
        ("jobs", "cancel"), ("invoice", "show"), ("keys", "revoke"), ("projects", "create"), ("tenants", "create"),
        ("keys", "create", "--project"), ("usage", "events", "--project"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_the_command_line(serving: Server, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    server = ("--url", serving.url, "--key", serving.key)
    for text in HARMLESS:
        value = (f"{words[-1]}={text}",) if words[-1].startswith("--") else ("--", text)
        code = run([*words[:-1], *server, *value] if len(value) == 1 else [*words, *server, *value])
        out, err = capsys.readouterr()
        assert code in (2, 5), (text, code, err)
        assert err.startswith("error["), err
        assert "Traceback" not in err
        assert CANARY not in out + err


def test_pushing_what_leads_out(serving: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = scaled(tmp_path, 1)
    for text in HARMLESS:
        assert run(["push", "--url", serving.url, "--key", serving.key, "--", text, str(file)]) == 2, text
    assert CANARY not in capsys.readouterr().err
