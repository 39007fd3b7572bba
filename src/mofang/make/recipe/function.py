"""[train]: functions of the user's own: one that trains, and one that builds a network of Keras."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta

from mofang.make.recipe.algorithms import Train
from mofang.make.recipe.networks import Network


class Function(Train, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="function"):
    """Python code of your own, run in the job's process. Only a key that may operate the server may send code."""

    framework: ClassVar[str] = "function"
    runs_code: ClassVar[bool] = True

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
        return no_python(self.code)


class Keras(Network, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="keras"):
    """A network of Keras that your own function builds. Only a key that may operate the server may send code."""

    framework: ClassVar[str] = "keras"
    runs_code: ClassVar[bool] = True

    code: Annotated[str, Meta(min_length=1, description="a Python module, as text: it defines the function")]
    name: Annotated[
        str,
        Meta(
            pattern=r"^[A-Za-z_]\w*$",
            description="of the function: it takes the shape of a row and the number of classes, 0 for a number, and "
            "returns a `keras.Model`: to a share of each class, a probability of each of several labels, or one number",
        ),
    ] = "build"

    @property
    def made_by(self) -> str:
        """See :attr:`Train.made_by`."""
        return "keras"

    def complaint(self, task: str) -> tuple[str, str] | None:
        """See :meth:`Train.complaint`."""
        return no_python(self.code) or Network.complaint(self, task)


def no_python(code: str) -> tuple[str, str] | None:
    """Say why ``code`` is no Python, and None if it is."""
    try:
        compile(code, "code", "exec", dont_inherit=True)
    except (RecursionError, MemoryError):
        return "code", "is nested too deeply"
    except (SyntaxError, ValueError) as error:
        where = f"line {error.lineno} of it: " if isinstance(error, SyntaxError) and error.lineno else ""
        return "code", f"is no Python: {where}{getattr(error, 'msg', error)}"
    return None
