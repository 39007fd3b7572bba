"""keep networks, provenance, estimates and trials of runs"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go to this revision; the runs that are there know nothing of the new columns."""
    op.add_column("runs", sa.Column("network", sa.String(length=64), nullable=False, server_default=sa.text("''")))
    op.add_column("runs", sa.Column("provenance", sa.JSON(), nullable=False, server_default="{}"))
    op.add_column("runs", sa.Column("estimate", sa.JSON(), nullable=False, server_default="{}"))
    op.add_column("runs", sa.Column("trials", sa.JSON(), nullable=False, server_default="[]"))


def downgrade() -> None:
    """Go back to the one before."""
    op.drop_column("runs", "trials")
    op.drop_column("runs", "estimate")
    op.drop_column("runs", "provenance")
    op.drop_column("runs", "network")
