"""What an export starts from: everything that is known of one version, laid out as files. It does nothing by itself."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

from mofang.base.domain.errors import NoExport
from mofang.base.domain.registry import ModelVersion
from mofang.base.domain.tensors import Signature
from mofang.make.convert.toolchains import Toolchains
from mofang.make.export.forms import FORMS, FormName
from mofang.make.prepare.dataset import Examples


@dataclass(frozen=True, slots=True)
class Source:
    """One version: ``folder`` is its artifact, ``pushed`` the files it came as, if it was pushed in another format.

    ``network`` holds architecture and weights, as training left them, and ``framework`` says whose they are. ``test``
    are held-out rows of the data it was made from, if it was trained here.
    """

    version: ModelVersion
    folder: Path
    pushed: Path | None = None
    network: bytes = b""
    framework: str = ""
    test: Examples | None = None
    toolchains: Toolchains = field(default_factory=Toolchains)

    @property
    def engine(self) -> str:
        """What serves the version."""
        return self.version.artifact.engine

    @property
    def was(self) -> str:
        """The format it was pushed in; empty if it was not, or came as it is served."""
        conversion = self.version.lineage.conversion
        return conversion.format.rpartition(" ")[2] if conversion else ""

    def refuse(self, form: FormName, why: str) -> NoExport:
        """Return the error that says why the version cannot take ``form``."""
        return NoExport(
            f"{self.version} cannot be exported as {FORMS[form].title}: {why}",
            hint=f"that form is for {FORMS[form].of}; see the table of forms in the documentation",
        )


@dataclass(frozen=True, slots=True)
class Written:
    """What a writer left: which snippet loads it, what it takes and gives, and the packages the snippet needs.

    ``prepared``: it takes rows as the network sees them, after the preparation that the served graph has inside.
    ``runs``: it can be loaded here, to be held against the served model. What a stranger made is not: its bytes are
    those that were proven on the bench.
    """

    loader: str
    signature: Signature
    packages: tuple[str, ...]
    prepared: bool = False
    runs: bool = True
    proof: str = ""  # what was proven already, in words
    python: Path = Path(sys.executable)  # what runs it here
