"""A file that a killed run goes on from.

Written whole or not at all, and not so often that it would slow training down. A file of other data, another recipe or
another release of PyTorch, or one that is damaged, is as none at all.
"""

from __future__ import annotations

import os
import pickle
import time
from pathlib import Path
from typing import Any

import torch

_SHARE_OF_TIME = 0.01  # of training, that writing may take
_LEAST_SECONDS = 0.25  # between two


class Checkpoint:
    """The newest state of one run, at ``path``; ``run`` says which run, so that no other takes it up."""

    def __init__(self, path: Path, run: str) -> None:
        self._path = path
        self._run = f"{run} torch {torch.__version__}, {torch.get_num_threads()} threads"
        self._due = time.monotonic() + _LEAST_SECONDS

    def load(self) -> dict[str, Any] | None:
        """Return the state, if there is one of this run."""
        try:
            kept = torch.load(self._path, weights_only=True)
        except FileNotFoundError:
            return None
        except (RuntimeError, ValueError, EOFError, pickle.UnpicklingError):  # what torch says to a damaged file
            return None
        state: dict[str, Any] | None = kept["state"] if kept.get("run") == self._run else None
        return state

    def is_due(self) -> bool:
        """Tell whether it is time to keep the state again."""
        return time.monotonic() >= self._due

    def save(self, state: dict[str, Any]) -> None:
        """Keep ``state``, of tensors, numbers, texts and containers of them, in place of what was kept."""
        begun = time.monotonic()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        new = self._path.with_suffix(".new")
        torch.save({"run": self._run, "state": state}, new)
        os.replace(new, self._path)
        now = time.monotonic()
        self._due = now + max((now - begun) / _SHARE_OF_TIME, _LEAST_SECONDS)

    def remove(self) -> None:
        """Forget the run: it is over."""
        self._path.unlink(missing_ok=True)
