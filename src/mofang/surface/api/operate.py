"""The server itself: what runs, since when; and the description of this API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel

from mofang.surface.api.access import Route, table
from mofang.surface.api.platform import Platform, Process


class Status(BaseModel):
    """The server at a glance."""

    version: str
    started_at: int
    counts: dict[str, int]
    processes: list[Process]


class Operate:
    """The routes of the server itself."""

    def __init__(self, platform: Platform, describe: Callable[[], dict[str, Any]]) -> None:
        self._platform = platform
        self._describe = describe

    def get_status(self) -> Status:
        """Return version, counts and processes."""
        jobs, endpoints = self._platform.jobs, self._platform.deployments.list_endpoints()
        return Status(
            version=self._platform.version,
            started_at=self._platform.started_at,
            counts={
                "endpoints": len(endpoints),
                "projects": len(self._platform.identity.list_projects()),
                "jobs_running": len(jobs.list(state="running", limit=1000)),
                "jobs_queued": len(jobs.list(state="queued", limit=1000)),
            },
            processes=list(self._platform.processes()),
        )

    def get_openapi(self) -> dict[str, Any]:
        """Return the description of this API (OpenAPI 3.1)."""
        return self._describe()


def router(platform: Platform, describe: Callable[[], dict[str, Any]]) -> APIRouter:
    """Make the router of the server itself."""
    api = Operate(platform, describe)
    return table(
        "operate",
        Route("GET", "/status", "operate", api.get_status, everywhere=True),
        Route("GET", "/openapi.json", "usage", api.get_openapi),
    )
