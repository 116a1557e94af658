"""The cases of the grid, one after the other: made, checked, timed."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch

from benchmarks.grid.catalog import CELLS
from benchmarks.grid.compiled import GaveUpError
from benchmarks.grid.network import MODES, SIZES, Mode, Network, Size
from benchmarks.grid.optional import MissingPackageError
from benchmarks.grid.peers import PEERS, Limits
from benchmarks.grid.record import Entry, Spot
from benchmarks.grid.sides import side
from benchmarks.pairing import AnswersDifferError, Case, Effort, Side, assert_same_answers, measure

# Rounds of a tenth of a second, six at least: 0.6 s a side, and up to three times that while the spread is above 5 %.
EFFORT = Effort(seconds=0.1, rounds=6, most_rounds=18)
NOISE_SIZE = Size(100, 16, 128, 128)
SHARE_SIZE = Size(100, 64, 512, 512)
PRODUCT_WIDTH = 2048
ITSELF, PRODUCT = "itself", "torch.mm"


def spots(cells: list[str], peers: list[str], only: str = "") -> Iterator[Spot]:
    """All cases of these cells and peers; noise and share come first, with the LSTM."""
    if "LSTM" in cells:
        extra = [Spot("LSTM", NOISE_SIZE, mode, ITSELF) for mode in MODES]
        extra.append(Spot("LSTM", SHARE_SIZE, "training", PRODUCT))
        yield from (spot for spot in extra if only in spot.name)
    for cell in cells:
        for size in SIZES:
            for mode in MODES:
                for peer in peers:
                    spot = Spot(cell, size, mode, peer)
                    if only in spot.name:
                        yield spot


@dataclass
class Bench:
    """Measures cases. Networks are kept while their cell and size stay the same; missing libraries are said once."""

    effort: Effort
    limits: Limits
    missing: dict[str, str] = field(default_factory=dict)
    _made: tuple[str, Size, Network] | None = None
    _too_long: dict[tuple[str, str, Mode], int] = field(default_factory=dict)

    def entry(self, spot: Spot) -> Entry | None:
        """Make, check and time one case; None where the peer has no such cell, or is missing."""
        ended = Entry(spot.cell, spot.peer, spot.mode, spot.size, "failed")
        try:
            if spot.peer == PRODUCT:
                return self._share(spot)
            return self._pair(spot)
        except AnswersDifferError as error:
            return replace(ended, status="refused", reason=str(error))
        except GaveUpError as error:
            gave_up = replace(ended, status="gave up", reason=str(error))
            self.remember(gave_up)
            return gave_up
        except MissingPackageError as error:
            self.missing[spot.peer] = str(error)
            return None
        except Exception as error:  # noqa: BLE001 - one broken case must not end the grid
            return replace(ended, reason=f"{type(error).__name__}: {error}")

    def remember(self, entry: Entry) -> None:
        """What took too long to compile need not be tried over as many steps or more."""
        if entry.status == "gave up":
            group = (entry.cell, entry.peer, entry.mode)
            self._too_long[group] = min(self._too_long.get(group, entry.size.T), entry.size.T)

    def _pair(self, spot: Spot) -> Entry | None:
        if spot.peer in self.missing:
            return None
        known = self._too_long.get(_group(spot))
        if known is not None and known <= spot.size.T:
            raise GaveUpError(f"T = {known} was not compiled in time")
        network = self._network(spot)
        ours = side(network.ours, network.x, spot.mode)
        if spot.peer == ITSELF:
            return timed(spot, ours, side(network.ours, network.x, spot.mode), self.effort)
        theirs = PEERS[spot.peer](network, spot.mode, self.limits)
        return None if theirs is None else timed(spot, ours, theirs, self.effort)

    def _share(self, spot: Spot) -> Entry:
        """The rate of training beside that of a plain product of torch, in floating-point operations a second."""
        network = self._network(spot)
        a, b = torch.rand(PRODUCT_WIDTH, PRODUCT_WIDTH), torch.rand(PRODUCT_WIDTH, PRODUCT_WIDTH)
        ours = side(network.ours, network.x, spot.mode)
        assert_same_answers(Case(spot.name, ours, side(network.rivals["torch.nn"], network.x, spot.mode)))
        product = Side(f"torch.mm {PRODUCT_WIDTH}x{PRODUCT_WIDTH}", lambda: torch.mm(a, b))
        ratios = measure(ours, product, self.effort)
        counts = lstm_operations(spot.size) / (2 * PRODUCT_WIDTH**3)
        return Entry(
            *(spot.cell, spot.peer, spot.mode, spot.size, "measured", "share"),
            ours=f"{ours.name}, {lstm_operations(spot.size) / statistics.median(ratios.ours) / 1e9:.0f} GFLOP/s",
            theirs=f"{product.name}, {2 * PRODUCT_WIDTH**3 / statistics.median(ratios.theirs) / 1e9:.0f} GFLOP/s",
            ours_ms=1e3 * statistics.median(ratios.ours),
            theirs_ms=1e3 * statistics.median(ratios.theirs),
            speedup=ratios.median * counts,
            spread=ratios.spread,
            rounds=len(ratios.ours),
        )

    def _network(self, spot: Spot) -> Network:
        if self._made is None or self._made[:2] != (spot.cell, spot.size):
            # the old one goes first: two large ones need not be there at once
            self._made = None
            self._made = (spot.cell, spot.size, CELLS[spot.cell](spot.size))
        return self._made[2]


def timed(spot: Spot, ours: Side, theirs: Side, effort: Effort) -> Entry:
    """Check the answers, then time in turns. Raises AnswersDifferError."""
    assert_same_answers(Case(spot.name, ours, theirs))
    ratios = measure(ours, theirs, effort)
    return Entry(
        *(spot.cell, spot.peer, spot.mode, spot.size, "measured"),
        kind="noise" if spot.peer == ITSELF else "pair",
        ours=ours.name,
        theirs=theirs.name,
        ours_ms=1e3 * statistics.median(ratios.ours),
        theirs_ms=1e3 * statistics.median(ratios.theirs),
        speedup=ratios.median,
        spread=ratios.spread,
        rounds=len(ratios.ours),
    )


def lstm_operations(size: Size) -> int:
    """Multiplications and additions in the products of one training step: forward, gradient of x and h, of weights."""
    T, B, I, H = size
    return 3 * 2 * T * B * (I + H) * 4 * H


def _group(spot: Spot) -> tuple[str, str, Mode]:
    return spot.cell, spot.peer, spot.mode
