"""Bill in steps, with numbers, late usage and parties"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go to this revision."""
    op.create_table(
        "invoice_numbers",
        sa.Column("series", sa.String(), nullable=False),
        sa.Column("last", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("series", name=op.f("pk_invoice_numbers")),
    )
    op.create_table(
        "late_usage",
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("booked", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("hour", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("endpoint", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("meter", sa.String(), nullable=False),
        sa.Column("start_at", sa.BigInteger(), nullable=False),
        sa.Column("end_at", sa.BigInteger(), nullable=False),
        sa.Column("quantity", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "tenant", "booked", "hour", "endpoint", "version", "digest", "meter", name=op.f("pk_late_usage")
        ),
    )
    op.create_table(
        "parties",
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("title", sa.String(), nullable=False),
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("email", sa.String(), nullable=False),
        sa.Column("tax_id", sa.String(), nullable=False),
        sa.Column("notes", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", name=op.f("pk_parties")),
    )
    # Before the first release, invoices were other documents; none of them was issued by anybody.
    op.drop_table("invoices")
    op.create_table(
        "invoices",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("start_at", sa.BigInteger(), nullable=False),
        sa.Column("end_at", sa.BigInteger(), nullable=False),
        sa.Column("credits", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("number", sa.String(), nullable=False),
        sa.Column("issued_at", sa.BigInteger(), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=False),
        sa.Column("document", sa.String(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_invoices")),
    )
    op.create_index(op.f("ix_invoices_credits"), "invoices", ["credits"], unique=False)
    op.create_index(op.f("ix_invoices_tenant"), "invoices", ["tenant"], unique=False)
    op.add_column("usage_windows", sa.Column("first_seq", sa.BigInteger(), server_default="1", nullable=False))
    op.add_column("usage_windows", sa.Column("last_seq", sa.BigInteger(), server_default="0", nullable=False))
    op.execute("UPDATE usage_windows SET last_seq = (SELECT coalesce(max(seq), 0) FROM usage_events)")


def downgrade() -> None:
    """Go back to the one before."""
    op.drop_column("usage_windows", "last_seq")
    op.drop_column("usage_windows", "first_seq")
    op.drop_table("invoices")
    op.create_table(
        "invoices",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("document", sa.String(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_invoices")),
    )
    op.create_index(op.f("ix_invoices_tenant"), "invoices", ["tenant"], unique=False)
    op.drop_table("parties")
    op.drop_table("late_usage")
    op.drop_table("invoice_numbers")
