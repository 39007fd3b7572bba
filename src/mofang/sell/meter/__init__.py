"""Metering: every answer becomes exactly one usage record, and every record exactly one set of ledger events."""
