"""Money: integer micro-units of one currency. Floats are refused, always."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from types import MappingProxyType

from mofang.base.domain.errors import InvalidMoney

MICROS = 1_000_000
_DECIMALS: Mapping[str, int] = MappingProxyType(
    dict.fromkeys(
        (
            "BIF",
            "CLP",
            "DJF",
            "GNF",
            "ISK",
            "JPY",
            "KMF",
            "KRW",
            "PYG",
            "RWF",
            "UGX",
            "VND",
            "VUV",
            "XAF",
            "XOF",
            "XPF",
        ),
        0,
    )
    | dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3)
)  # of ISO 4217, where it is not two
_CURRENCY = re.compile(r"[A-Z]{3}")


@dataclass(frozen=True, slots=True, order=True)
class Money:
    """``micros`` millionths of one unit of ``currency`` (ISO 4217). 1.50 EUR is ``Money(1_500_000, "EUR")``."""

    micros: int
    currency: str

    def __post_init__(self) -> None:
        if isinstance(self.micros, bool) or not isinstance(self.micros, int):
            raise InvalidMoney(f"money is an integer number of micro-units, not {self.micros!r}")
        if not _CURRENCY.fullmatch(self.currency):
            raise InvalidMoney(f"{self.currency!r} is no currency", hint="write its ISO 4217 code, e.g. EUR")

    @classmethod
    def parse(cls, text: str, currency: str) -> Money:
        """Read a decimal such as ``"0.0025"``; raise InvalidMoney if it is finer than a micro-unit."""
        try:
            micros = Decimal(text) * MICROS
        except ArithmeticError as error:
            raise InvalidMoney(f"{text!r} is no amount of money") from error
        if not micros.is_finite() or micros != micros.to_integral_value():
            raise InvalidMoney(f"{text!r} is finer than a micro-unit", hint="use at most six decimals")
        return cls(int(micros), currency)

    def __add__(self, other: Money) -> Money:
        if other.currency != self.currency:
            raise InvalidMoney(f"cannot add {other.currency} to {self.currency}")
        return Money(self.micros + other.micros, self.currency)

    def payable(self) -> Money:
        """Return what can be paid of it: rounded to the smallest coin of its currency, a cent of most."""
        coin = 10 ** (6 - _DECIMALS.get(self.currency, 2))
        return Money(round_half_even(Fraction(self.micros, coin)) * coin, self.currency)

    def __str__(self) -> str:
        return f"{format_micros(self.micros)} {self.currency}"


def format_micros(micros: int) -> str:
    """Write micro-units exactly, with at least two decimals: ``1500000`` is ``1.50``, ``12`` is ``0.000012``."""
    sign, micros = ("-", -micros) if micros < 0 else ("", micros)
    whole, fraction = divmod(micros, MICROS)
    digits = f"{fraction:06d}"
    return f"{sign}{whole}.{digits[:2]}{digits[2:].rstrip('0')}"


def round_half_even(exact: Fraction) -> int:
    """Round to a whole number of micro-units, halves to the even one: the one rounding rule of the platform.

    Exact however large the numbers are. Whatever is rounded says so by calling this; nothing else rounds money.
    """
    return round(exact)
