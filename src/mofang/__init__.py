"""Mofang (模坊): turn any trained model into a metered, keyed, reversible API.

The five wings, read in the order of a model's life: ``base`` (what every stage stands on), ``make`` (from data
to a registered version), ``run`` (from a version to an answer), ``sell`` (from an answer to an invoice) and
``surface`` (what the outside touches).
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mofang.surface.sdk.client import Client

__version__ = "0.1.0"
__all__ = ["Client", "__version__"]


def __getattr__(name: str) -> Any:
    """Load :class:`Client` on first use, so that ``import mofang`` stays instant."""
    if name == "Client":
        from mofang.surface.sdk.client import Client

        return Client
    raise AttributeError(f"module 'mofang' has no attribute {name!r}")
