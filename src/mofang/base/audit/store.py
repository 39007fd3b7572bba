"""The audit log as tables: the records, the complete subtrees over them, and the signed head in a row of its own.

Every control action appends here inside the transaction that makes the change, so that neither is there without the
other.
"""

from __future__ import annotations

import builtins
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Integer,
    Row,
    Table,
    Text,
    delete,
    insert,
    or_,
    select,
    tuple_,
    update,
)

from mofang.base.audit.chain import ERASURE, GENESIS, NAMES, AuditRecord, mentions, seal
from mofang.base.audit.heads import AuditKey, AuditPublicKey, Head
from mofang.base.audit.merkle import EMPTY_ROOT, Edge, Node, hash_leaf, prove_consistency, prove_inclusion, root_of
from mofang.base.audit.proof import ConsistencyProof, InclusionProof
from mofang.base.audit.verify import Anchor, VerifyReport, verify
from mofang.base.domain.access import Scope
from mofang.base.domain.errors import AuditBroken, AuditRecordNotFound
from mofang.base.domain.names import now_us
from mofang.base.domain.registry import canonical_json
from mofang.base.storage.concerns import concerned, concerning, names_of, note_concerns
from mofang.base.storage.database import Database, metadata

_PAGE = 1000
_BEFORE_ALL = -1 << 62  # pages begin there, to see also what someone put before the first record

audit_records = Table(
    "audit_records",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False, index=True),
    Column("action", Text, nullable=False),
    Column("actor", Text, index=True),  # NULL: erased, as are the next two
    Column("target", Text, index=True),
    Column("address", Text),
    Column("details", Text, nullable=False),  # the other words, by name; canonical JSON, as are the next two
    Column("salts", Text, nullable=False),
    Column("commitments", Text, nullable=False),
    Column("previous", Text, nullable=False),
    Column("hash", Text, nullable=False),
)
audit_nodes = Table(
    "audit_nodes",
    metadata,
    Column("level", Integer, primary_key=True, autoincrement=False),  # from 1; level 0 are the records
    Column("place", BigInteger, primary_key=True, autoincrement=False),
    Column("hash", Text, nullable=False),
)
audit_head = Table(
    "audit_head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),  # always 1
    Column("seq", BigInteger, nullable=False),
    Column("hash", Text, nullable=False),
    Column("root", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("signature", Text, nullable=False),
    Column("edge", Text, nullable=False),  # hashes of the subtrees that the next record continues, with spaces between
)


class AuditStore:
    """Appends to the log, searches it, proves what is in it, and verifies it. Without ``key``, heads are not signed."""

    def __init__(self, database: Database, key: AuditKey | None = None) -> None:
        self._database = database
        self._key = key

    def append(
        self,
        actor: str,
        action: str,
        target: str,
        *,
        before: Any,
        after: Any,
        details: Mapping[str, Any] | None = None,
        address: str = "",
        of: Sequence[Scope] = (),
    ) -> AuditRecord:
        """Append a record; inside a ``write()`` of the caller it is committed with what it tells of.

        ``before`` is what the action has replaced and ``after`` what it put there (None: nothing was, nothing is). They
        and ``details`` are plain JSON and hold no secret: who may see the record can read them. ``address`` is the
        client's. ``of`` says whom it concerns, besides those who look after the platform: a project, or a tenant as a
        whole (no project named).
        """
        told: dict[str, Any] = {"actor": actor, "target": target, **({"address": address} if address else {})}
        words = {"before": before, "after": after, **(details or {}), **({"of": names_of(of)} if of else {})}
        told |= {f"details.{name}": word for name, word in words.items()}
        return self._append(action, json.loads(canonical_json(told)), of=of)

    def _append(
        self, action: str, told: Mapping[str, Any], untold: Sequence[str] = (), of: Sequence[Scope] = ()
    ) -> AuditRecord:
        """Append a record; the words that ``untold`` names are committed to and not kept."""
        with self._database.write() as connection:
            head, edge = _head(connection)
            if head.size == 0 and _page(connection, _BEFORE_ALL, 1):
                raise AuditBroken("the head of the audit log was removed: nothing can be appended to it")
            record = seal(head.size + 1, now_us(), action, told, head.last)
            connection.execute(insert(audit_records).values(**_row(record, untold)))
            note_concerns(connection, record.seq, of)
            nodes = edge.append(hash_leaf(bytes.fromhex(record.hash)))[1:]
            if nodes:
                rows = [{"level": level, "place": place, "hash": it.hex()} for (level, place), it in nodes]
                connection.execute(insert(audit_nodes), rows)
            self._move_head(connection, edge, record)
        return record

    def _move_head(self, connection: Connection, edge: Edge, record: AuditRecord) -> None:
        root = edge.root.hex()
        head = Head(edge.size, root, record.hash, record.at)
        if self._key is not None:
            head = self._key.sign(edge.size, root, record.hash, record.at)
        row = {"id": 1, "seq": head.size, "hash": head.last, "root": root, "at": head.at, "signature": head.signature}
        connection.execute(delete(audit_head))
        connection.execute(insert(audit_head).values(**row, edge=" ".join(it.hex() for it in edge.hashes)))

    def list(
        self,
        after: int = 0,
        limit: int = 100,
        *,
        actor: str | None = None,
        action: str | None = None,
        target: str | None = None,
        start: int | None = None,
        end: int | None = None,
        without: str | None = None,
    ) -> Sequence[AuditRecord]:
        """Return up to ``limit`` records with a seq above ``after``, oldest first: those that agree with all given.

        They concern somebody within the scope of whoever uses the database. ``action`` is one (``key.create``) or the
        beginning of several (``key``), ``without`` likewise those that are left out; ``start`` up to ``end`` is when.
        """
        columns = audit_records.c
        conditions = [concerning(self._database.scope, columns.seq)]
        for column, value in ((columns.actor, actor), (columns.target, target)):
            if value is not None:
                conditions.append(column == value)
        if action is not None:
            conditions.append(or_(columns.action == action, columns.action.startswith(f"{action}.", autoescape=True)))
        if without is not None:
            conditions.append(~columns.action.startswith(f"{without}.", autoescape=True))
        if start is not None:
            conditions.append(columns.at >= start)
        if end is not None:
            conditions.append(columns.at < end)
        with self._database.read() as connection:
            return _page(connection, after, limit, *conditions)

    def has(self, action: str, target: str) -> bool:
        """Tell whether the log has a record of ``action`` on ``target``, whomever it concerns."""
        columns = audit_records.c
        query = select(columns.seq).where(columns.target == target, columns.action == action).limit(1)
        with self._database.read() as connection:
            return connection.scalar(query) is not None

    def head(self) -> Head:
        """Return the head of the log, signed if there is a key."""
        with self._database.read() as connection:
            return _head(connection)[0]

    @property
    def public_key(self) -> str:
        """The public key as PEM; empty without a key."""
        return "" if self._key is None else self._key.public_pem

    def anchor(self, since: int, most: int = _PAGE) -> Anchor:
        """Return the head to be kept elsewhere, with the hashes of its last records: those after ``since``, or less."""
        with self._database.read() as connection:
            head, _ = _head(connection)
            first = max(since, head.size - most)
            query = select(audit_records.c.hash).where(audit_records.c.seq > first).order_by(audit_records.c.seq)
            return Anchor(head, tuple(connection.scalars(query)))

    def verify(self, anchors: Sequence[Anchor] = ()) -> VerifyReport:
        """Check the whole log; raise AuditBroken, which names the first record that is not as it was written."""
        key = AuditPublicKey(self.public_key) if self._key is not None else None
        with self._database.read() as connection:
            return verify(_all(connection), _head(connection)[0], anchors, key)

    def prove(self, seq: int) -> InclusionProof:
        """Prove that record ``seq`` is in the log of the head; raise AuditRecordNotFound."""
        return self.prove_all([seq])[0]

    def prove_all(self, numbers: Sequence[int]) -> builtins.list[InclusionProof]:
        """Prove that all these records are in the log of one head; raise AuditRecordNotFound."""
        columns = audit_records.c
        with self._database.read() as connection:
            head, _ = _head(connection)
            query = select(columns.seq, columns.hash).where(columns.seq.in_(numbers), columns.seq <= head.size)
            rows = connection.execute(query.where(concerning(self._database.scope, columns.seq)))
            hashes = {row.seq: row.hash for row in rows}
            found = []
            for seq in numbers:
                if seq not in hashes:
                    raise AuditRecordNotFound(f"there is no audit record {seq}, the log has {head.size}")
                path = prove_inclusion(seq - 1, head.size, lambda nodes: _read(connection, nodes))
                found.append(InclusionProof(seq, hashes[seq], tuple(it.hex() for it in path), head))
        return found

    def prove_growth(self, first: int) -> ConsistencyProof:
        """Prove that the log of the head begins with that of ``first`` records; raise AuditRecordNotFound."""
        with self._database.read() as connection:
            head, _ = _head(connection)
            if not 0 < first <= head.size:
                raise AuditRecordNotFound(f"the log never had {first} records, it has {head.size}")
            root = root_of(first, lambda nodes: _read(connection, nodes))
            path = prove_consistency(first, head.size, lambda nodes: _read(connection, nodes))
        return ConsistencyProof(first, root.hex(), tuple(it.hex() for it in path), head)

    def erase(self, actor: str, subject: str, *, address: str = "") -> AuditRecord:
        """Erase every word that names ``subject`` (a name, an id, an address), and the addresses it acted from.

        The log stays verifiable: hashes cover commitments to words, not the words. Returns the record that tells which
        words of which records went, and never whose they were.
        """
        with self._database.write() as connection:
            erased: dict[str, builtins.list[str]] = {}
            for record in _candidates(connection, subject):
                names = [name for name, word in record.told.items() if mentions(word, subject)]
                if "actor" in names and "address" in record.told and "address" not in names:
                    names.append("address")
                if names:
                    _forget(connection, record, names)
                    erased[str(record.seq)] = sorted(names)
            told = {"actor": actor, "target": subject, "details.erased": erased}
            told |= {"details.before": {"records": len(erased)}, "details.after": {"records": 0}}
            if address:
                told["address"] = address
            untold = [name for name in ("actor", "target") if mentions(told[name], subject)]
            erased[str(_head(connection)[0].size + 1)] = untold
            return self._append(ERASURE, told, untold)


def _head(connection: Connection) -> tuple[Head, Edge]:
    row = connection.execute(select(audit_head)).one_or_none()
    if row is None:
        return Head(0, EMPTY_ROOT.hex(), GENESIS, 0), Edge()
    edge = Edge(row.seq, [bytes.fromhex(text) for text in row.edge.split()])
    return Head(row.seq, row.root, row.hash, row.at, row.signature), edge


def _read(connection: Connection, nodes: Sequence[Node]) -> Sequence[bytes]:
    """Return the hashes of complete subtrees."""
    leaves = [place + 1 for level, place in nodes if level == 0]
    records, columns = audit_records.c, audit_nodes.c
    found: dict[Node, bytes] = {}
    for row in connection.execute(select(records.seq, records.hash).where(records.seq.in_(leaves))):
        found[0, row.seq - 1] = hash_leaf(bytes.fromhex(row.hash))
    inner = [node for node in nodes if node[0]]
    for row in connection.execute(select(audit_nodes).where(tuple_(columns.level, columns.place).in_(inner))):
        found[row.level, row.place] = bytes.fromhex(row.hash)
    try:
        return [found[node] for node in nodes]
    except KeyError as error:
        raise AuditBroken(f"the tree over the audit log lost a part: level and place {error}") from error


def _all(connection: Connection) -> Iterator[AuditRecord]:
    after = _BEFORE_ALL
    while page := _page(connection, after, _PAGE):
        shown = concerned(connection, page[0].seq, page[-1].seq)
        for record in page:
            yield record  # whoever verifies has said that it is as written, when she asks for the next one
            if "details.of" not in record.erased and record.details.get("of", []) != shown.get(record.seq, []):
                raise AuditBroken(f"audit record {record.seq} is shown to others than those it concerns")
        after = page[-1].seq


def _page(connection: Connection, after: int, limit: int, *conditions: ColumnElement[bool]) -> Sequence[AuditRecord]:
    query = select(audit_records).where(audit_records.c.seq > after, *conditions).order_by(audit_records.c.seq)
    return [_record(row) for row in connection.execute(query.limit(limit))]


def _candidates(connection: Connection, subject: str) -> builtins.list[AuditRecord]:
    """Return all records that may name ``subject``."""
    written = json.dumps(subject)[1:-1]
    texts = (audit_records.c.actor, audit_records.c.target, audit_records.c.address)
    named = [column.contains(subject, autoescape=True) for column in texts]
    query = select(audit_records).where(or_(*named, audit_records.c.details.contains(written, autoescape=True)))
    return [_record(row) for row in connection.execute(query.order_by(audit_records.c.seq))]


def _forget(connection: Connection, record: AuditRecord, names: Sequence[str]) -> None:
    row = _row(record, names)
    changed = {name: row[name] for name in (*NAMES, "details", "salts")}
    connection.execute(update(audit_records).where(audit_records.c.seq == record.seq).values(**changed))


def _row(record: AuditRecord, without: Sequence[str] = ()) -> dict[str, Any]:
    """Return the columns of a record, less the words named ``without`` and their salts."""
    told = {name: word for name, word in record.told.items() if name not in without}
    salts = {name: salt for name, salt in record.salts.items() if name not in without}
    return {
        "seq": record.seq,
        "at": record.at,
        "action": record.action,
        **{name: told.get(name) for name in NAMES},
        "details": canonical_json({name: word for name, word in told.items() if name not in NAMES}).decode("ascii"),
        "salts": canonical_json(salts).decode("ascii"),
        "commitments": canonical_json(dict(record.commitments)).decode("ascii"),
        "previous": record.previous,
        "hash": record.hash,
    }


def _record(row: Row[Any]) -> AuditRecord:
    try:
        details, salts, commitments = (json.loads(text) for text in (row.details, row.salts, row.commitments))
        told = {name: getattr(row, name) for name in NAMES if getattr(row, name) is not None} | details
    except (ValueError, TypeError) as error:
        raise AuditBroken(f"audit record {row.seq} was changed: its details cannot be read") from error
    return AuditRecord(row.seq, row.at, row.action, told, salts, commitments, row.previous, row.hash)
