"""A39: whoever is erased is gone from every file of the server; the audit log verifies as before, and tells of it."""

from __future__ import annotations

from mofang import Client
from mofang.surface.sdk.bill import Party
from servers import Server

MAIL, TITLE = "canary-5f1e@example.com", "Canary-77aa Industries"


def files_with(server: Server, canary: str) -> list[str]:
    """Name the files of the data directory that hold the canary's bytes."""
    everything = (path for path in server.data.rglob("*") if path.is_file())
    return [path.name for path in everything if canary.encode() in path.read_bytes()]


def test_who_is_erased_is_gone_from_every_file(server: Server) -> None:
    client = server.client
    client.identity.create_tenant("acme")
    client.identity.create_project("shop", "acme")
    client.users.create(MAIL, "viewer", tenant="acme", project="shop")
    client.identity.create_key("shop", name=MAIL)
    client.bill.set_party(Party("acme", title=TITLE, address="1 Canary-77aa Row", email=MAIL))
    before = client.audit.verify(usage=True)
    assert files_with(server, MAIL)
    assert files_with(server, TITLE)

    report = client.audit.erase(MAIL)
    assert (report.user, report.party) == (True, True)
    assert report.words > 0
    after = client.audit.verify(usage=True)
    assert (after.records, after.erased) == (before.records + 1, report.records + 1)
    (record,) = client.audit.records(action="audit.erase")
    assert (record.seq, record.target, record.erased) == (report.record, "", ["target"])
    for seq in range(1, after.records + 1):
        client.audit.prove(seq)
    assert MAIL not in {user.name for user in client.users.list()}
    assert MAIL not in {key.name for key in client.identity.list_keys()}
    assert [party for party in client.bill.list_parties() if party.tenant == "acme"] == []

    assert server.terminate() == 0
    assert files_with(server, MAIL) == files_with(server, TITLE) == []
    server.start()
    with Client(server.url, server.key, grpc=server.grpc) as again:
        assert again.audit.verify().erased == after.erased
