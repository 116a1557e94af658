"""What the data of most tasks have in common once they are read and divided: parts, accounts, what a run keeps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from elman.data.account import Account

__all__ = ["Divided"]


class _Written(Protocol):
    def to_json(self) -> Any: ...


C = TypeVar("C", bound=_Written)
P = TypeVar("P")


@dataclass(frozen=True)
class Divided(ABC, Generic[C, P]):
    """The data of a training (a `Prepared`, but for its facts).

    codec: as `Prepared` has it. parts: "train" and, where there are any, "valid" and "test". accounts: of each group of
    files that was read. drawn: the parts that were drawn from the training data.
    """

    codec: C
    parts: dict[str, P]
    accounts: dict[str, Account]
    drawn: tuple[str, ...] = ()

    @abstractmethod
    def items(self, part: P) -> Sequence[Any]:
        """The items of a part that a split keeps whole, each with its `place`."""

    def part(self, name: str) -> P | None:
        """The items of "train", "valid" or "test"; None where there are none."""
        return self.parts.get(name)

    @property
    def read(self) -> dict[str, int]:
        """How many items each group of files had."""
        return {name: account.read for name, account in self.accounts.items()}

    @property
    def sizes(self) -> dict[str, int]:
        """How many items each part has."""
        return {name: len(self.items(part)) for name, part in self.parts.items()}

    def files(self) -> dict[str, Any]:
        """The codec, the accounts, and where each item of a drawn part comes from."""
        return {
            "codec.json": self.codec.to_json(),
            "account.json": {name: account.to_json() for name, account in self.accounts.items()},
            "split.json": {
                name: [str(item.place) for item in self.items(self.parts[name])] for name in self.drawn
            },
        }

    def account_lines(self) -> list[str]:
        """What was read, used and left out, of each group of files."""
        several = len(self.accounts) > 1
        return [
            f"{name}: {line}" if several and line.startswith("read") else line
            for name, account in self.accounts.items()
            for line in account.lines()
        ]

    def sizes_line(self, what: str, more: str = "") -> str:
        """`80 / 10 / 10 texts to train / valid / test; drawn from the data: valid and test`."""
        sizes = " / ".join(f"{size:,}" for size in self.sizes.values())
        drawn = f"; drawn from the data: {' and '.join(self.drawn)}" if self.drawn else ""
        return f"{sizes} {what}{more} to {' / '.join(self.parts)}{drawn}"
