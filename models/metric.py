"""How a figure is called, printed and compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Metric:
    """A figure of validation or evaluation. digits: how many are shown. is_proxy: it stands in for want of truth."""

    name: str
    title: str
    better: Literal["lower", "higher"] = "lower"
    digits: int = 4
    is_proxy: bool = False

    def shown(self, value: float) -> str:
        return f"{value:.{self.digits}f}"
