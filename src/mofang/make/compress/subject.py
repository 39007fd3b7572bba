"""What techniques take and give back: a model between two steps, and the means they have at hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mofang.base.domain.tensors import Array
from mofang.base.domain.work import Progress, Silent
from mofang.base.engines.base import Engine
from mofang.make.compress.outside import Outside
from mofang.make.prepare.dataset import Examples


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """A model between two steps.

    ``folder`` has its files as ``engine`` loads them; None if ``model`` was changed since, and nobody wrote it yet.
    ``model`` is what the files were exported from, a network (``Net``) say, and ``framework`` names the converter that
    writes it; None where nobody has it: of a pushed file, and after a technique that changed the files alone. Nothing
    is changed in place: a technique copies a model before it changes it, and writes into a new folder.
    """

    folder: Path | None
    engine: str = "onnx"
    model: Any = None
    framework: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Means:
    """What techniques work with.

    ``original`` is the version as it is, the teacher of those that learn. ``examples`` are the training rows with their
    target, which is empty if nobody knows the labels; None if nobody knows the rows. ``calibration`` has inputs by name
    as clients send them, n rows each; empty if there are none. ``scratch`` gives a new empty folder that lasts as long
    as the job. ``teacher`` opens another model by its name, for steps that learn from one. ``outside`` is what is known
    of a pushed network whose place a student may take; None if no student can, or the original is a network of ours.
    """

    original: Subject
    scratch: Callable[[], Path]
    teacher: Callable[[str], AbstractContextManager[Engine]] | None = None
    examples: Examples | None = None
    calibration: Mapping[str, Array] = field(default_factory=dict)
    outside: Outside | None = None
    unseen: NDArray[np.int64] | None = None  # which examples the version was not trained on, if that is known
    checkpoints: Path | None = None  # a folder that a killed job finds again
    image: bool = False  # whether the version takes files of images
    measured: dict[str, float] = field(default_factory=dict)  # what was found once, for candidates that ask again
    progress: Progress = field(default_factory=Silent)
    seed: int = 0


Technique = Callable[[Any, Subject, Means], Subject]
"""(its step, a subject, the means) to the subject after it; NoVariant, with the reason, where it does not apply."""
