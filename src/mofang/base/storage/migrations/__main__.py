"""``python -m mofang.base.storage.migrations MESSAGE [--from-scratch]``: write the next revision."""

from __future__ import annotations

import argparse

from mofang.base.storage.migrations.revise import write_revision

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("message", help='what changes, e.g. "Add budgets"')
    parser.add_argument("--from-scratch", action="store_true", help="replace all revisions by one")
    arguments = parser.parse_args()
    path = write_revision(arguments.message, from_scratch=arguments.from_scratch)
    print(path or "nothing to write: the revisions lead to the tables of the stores")
