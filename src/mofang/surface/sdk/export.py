"""Exports: take a version out, as files of some framework with a card and the code that asks it."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from tempfile import TemporaryFile

from mofang.base.domain.errors import InvalidPath
from mofang.base.domain.registry import FileEntry, check_files
from mofang.base.domain.work import Job
from mofang.surface.sdk.jobs import Jobs, Submitted
from mofang.surface.sdk.transport import API, Transport, segment


class Export:
    """``client.export``."""

    def __init__(self, wire: Transport, jobs: Jobs) -> None:
        self._wire = wire
        self._jobs = jobs

    def run(self, version: str, to: str = "onnx", *, licence: str = "") -> Job:
        """Have ``MODEL@VERSION`` written in the form ``to``; return the job.

        The job's result is ``{"version", "digest", "to", "files", "parity", "archive", "size_bytes"}``. It fails with
        NoExport if the version cannot take that form, with ParityFailed if what was written answers otherwise.
        """
        body = {"version": version, "to": to, "licence": licence}
        return self._jobs.get(self._wire.call("POST", "/exports", Submitted, body).job)

    def save(self, job: str, folder: Path) -> list[Path]:
        """Write the files of the export that ``job`` made into ``folder``, which must not exist or be empty.

        Raises ExportNotFound, or InvalidPath for a folder that holds something.
        """
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InvalidPath(f"{str(folder)!r} is not empty", hint="name a folder that is not there yet: `--output`")
        path = f"{API}/exports/{segment(job)}/archive"
        with TemporaryFile() as file:
            with self._wire.stream("GET", path, b"", {}, self._wire.timeout_seconds) as answer:
                for piece in answer.iter_bytes():
                    file.write(piece)
            with zipfile.ZipFile(file) as packed:
                entries = packed.infolist()
                check_files(FileEntry(each.filename, "", each.file_size) for each in entries)
                packed.extractall(folder)
        return [folder / os.path.normpath(each.filename) for each in entries]
