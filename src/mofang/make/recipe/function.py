"""[train]: a function of the user's own."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta

from mofang.make.recipe.algorithms import Train


class Function(Train, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="function"):
    """Python code of your own, run in the job's process. Only a key that may operate the server may send code."""

    framework: ClassVar[str] = "function"

    code: Annotated[str, Meta(min_length=1, description="a Python module, as text: it defines the function")]
    name: Annotated[
        str,
        Meta(
            pattern=r"^[A-Za-z_]\w*$",
            description="of the function: it takes rows, target and progress, and returns a `mofang.train.Model`",
        ),
    ] = "train"

    def complaint(self, task: str) -> tuple[str, str] | None:
        """See :meth:`Train.complaint`: the code must at least be Python."""
        try:
            compile(self.code, "code", "exec", dont_inherit=True)
        except (RecursionError, MemoryError):
            return "code", "is nested too deeply"
        except (SyntaxError, ValueError) as error:
            where = f"line {error.lineno} of it: " if isinstance(error, SyntaxError) and error.lineno else ""
            return "code", f"is no Python: {where}{getattr(error, 'msg', error)}"
        return None
