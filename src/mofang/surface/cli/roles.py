"""`mofang roles`: the role matrix, as the server applies it."""

from __future__ import annotations

from typing import get_args

import click

from mofang.base.domain.access import PERMISSIONS, Permission, Role
from mofang.surface.cli import screen
from mofang.surface.cli.session import Session
from mofang.surface.cli.verbs import verb

ABOUT: dict[Permission, str] = {
    "infer": "ask endpoints",
    "read": "see data, runs, models, endpoints, jobs",
    "make": "train, push, evaluate, compress",
    "deploy": "deploy, roll back, share, delete endpoints",
    "usage": "see what was used",
    "bill": "see prices and invoices",
    "sell": "set prices, make and issue invoices",
    "identity": "give out keys, roles and limits",
    "audit": "see who did what",
    "operate": "look after the server itself",
}


@verb("roles", example="mofang roles", json="{items}, each: permission, about, roles.", remote=False)
@click.pass_obj
def roles(session: Session) -> None:
    """Show what each role may do, within the reach of the key: its project, its tenant or the platform."""
    found = [
        {"permission": permission, "about": about, "roles": [r for r in get_args(Role) if permission in PERMISSIONS[r]]}
        for permission, about in ABOUT.items()
    ]

    def draw() -> None:
        rows = [
            (name, *("x" if name in PERMISSIONS[role] else "" for role in get_args(Role)), about)
            for name, about in ABOUT.items()
        ]
        screen.table(("permission", *get_args(Role), "to"), rows)

    session.answer_list(found, draw)
