"""Where things stand in the unfolded picture: a column for each drawn step, a row for each block."""

from dataclasses import dataclass, replace

from elman.plots import theme
from elman.plots.basic import MARGIN, input_weights
from elman.plots.canvas import Area
from elman.plots.drawing import Block, Direction, ModelDrawing, Stack
from elman.plots.quantities import has_time, state_list
from elman.plots.text import width

TOP = 176.0
NAMES = 126.0
ROW_HEIGHTS = {
    "embedding": 36.0,
    "dense": 36.0,
    "norm": 30.0,
    "dropout": 26.0,
    "attention": 36.0,
    "other": 36.0,
    "recurrent": 46.0,
}
# As many steps are all drawn; of more, the first, the last and three between, or only two first ones if boxes are wide.
FEW_STEPS = 5
WIDE = 50.0
NARROWEST_HALF = 40.0

# A block of two directions: forward box below and to the left, backward box above and to the right, by this much.
LANE = 42.0
LANES_APART = 28.0
ASIDE = 18.0
FORK = 24.0
JOIN = 16.0

# How far beside a box a residual connection runs.
SKIP = 12.0


@dataclass(frozen=True, slots=True)
class Column:
    """One drawn step: its middle, the index it carries, and whether steps are left out after it."""

    x: float
    index: str
    dots_after: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """One block's place: the box itself, and the ports where its arrows arrive and leave.

    `forked`: a residual connection begins below it.
    """

    block: Block
    top: float
    bottom: float
    forked: bool = False

    @property
    def middle(self) -> float:
        """The y of the middle."""
        return (self.top + self.bottom) / 2

    @property
    def both_ways(self) -> bool:
        """Whether the block has a forward and a backward box."""
        return len(self.block.directions) == 2

    def box(self, x: float, half: float, direction: Direction = "forward") -> Area:
        """The box of a column, or that of one of its directions."""
        if not self.both_ways:
            return Area(x - half, self.top, x + half, self.bottom)
        if direction == "forward":
            return Area(x - half, self.bottom - LANE, x + half - 2 * ASIDE, self.bottom)
        return Area(x - half + 2 * ASIDE, self.top, x + half, self.top + LANE)

    def lane(self, direction: Direction) -> float:
        """The y of the state arrows of a direction."""
        box = self.box(0, 0, direction)
        return (box.top + box.bottom) / 2

    @property
    def arrives(self) -> float:
        """The y at which what comes from below splits or arrives."""
        return self.bottom + (FORK if self.both_ways else 0)

    @property
    def forks(self) -> float:
        """The y at which a residual connection leaves."""
        return self.bottom + FORK + (12 if self.both_ways else 0)

    @property
    def sums(self) -> float:
        """The y of the residual sum."""
        return self.leaves - 18

    @property
    def leaves(self) -> float:
        """The y from which the output goes on upwards."""
        return self.top - (JOIN if self.both_ways else 0)

    @property
    def ends(self) -> float:
        """The y from which the next arrow starts."""
        return self.sums - 9 if self.block.residual else self.leaves


@dataclass(frozen=True, slots=True)
class Grid:
    """Where one stack stands: columns from left to right, rows from the input upwards, half the width of a box."""

    stack: Stack
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    half: float
    top: float
    bottom: float

    @property
    def left(self) -> float:
        """The left edge of the first column."""
        return self.columns[0].x - self.half

    @property
    def stub(self) -> float:
        """The length of the arrows into the first and out of the last column."""
        return _stub(self.stack)

    @property
    def passes(self) -> float:
        """How far from the middle of a column an arrow passes the box of the other direction."""
        return max(2 * ASIDE - 4, self.half - 2 * ASIDE + 9)

    @property
    def right(self) -> float:
        """The right edge of the last column."""
        return self.columns[-1].x + self.half

    def has(self, place: int, number: int) -> bool:
        """Whether what block `place` puts out (-1: the input) exists in a column."""
        if has_time(self.stack, place):
            return True
        if place < self.stack.core[0] and self.stack.reads == "first":
            return number == 0
        return self.stack.writes == "last" and number == len(self.columns) - 1


def _stub(stack: Stack) -> float:
    return 36.0 + (SKIP if any(block.residual for block in stack.blocks) else 0) + _spread(stack)


def _spread(stack: Stack) -> float:
    """What a long name of a recurrent weight needs between two boxes, beside the room for a short one."""
    names = [weight.name for block in stack.blocks for weight in block.weights if weight.role == "recurrent"]
    widest = max((width(name, theme.INDEX, "math", bold=True) for name in names), default=0.0)
    return max(0.0, widest - 28)


def side(stack: Stack) -> float:
    """Room beside the first and the last column for the names of the first and the last state."""
    last = {"forward": stack.time, "backward": f"{stack.time}+1"}
    names = [
        state_list(block.state_names(way), last[way]) for block in stack.blocks for way in block.directions
    ]
    return _stub(stack) + 8 + max((width(name, theme.INDEX, "math") for name in names), default=0.0)


def _names(stack: Stack) -> float:
    """Room for the names of the rows."""
    return max(NAMES, *(width(block.name, theme.SMALL) + 16 for block in stack.blocks))


def _indices(stack: Stack, few: int) -> list[tuple[str, bool]]:
    if stack.steps <= few:
        return [(str(step), False) for step in range(1, stack.steps + 1)]
    if few < FEW_STEPS:
        return [("1", False), ("2", True), (stack.time, False)]
    return [("1", True), ("t−1", False), ("t", False), ("t+1", True), (stack.time, False)]


def _half(stack: Stack) -> float:
    """Half the width of a column's boxes: room for the names of the states."""
    halves = [NARROWEST_HALF]
    for block in stack.blocks:
        for direction in block.directions:
            names = width(inside(block, direction, "t+1"), theme.INDEX, "math") + 16
            halves.append(names / 2 + (ASIDE if len(block.directions) == 2 else 0))
    return max(halves)


def _columns_from(left: float, stack: Stack, half: float, few: int) -> tuple[Column, ...]:
    skip = SKIP if any(block.residual for block in stack.blocks) else 0
    spread = _spread(stack)
    pitch = 2 * half + (40 if stack.steps > few else 64) + skip + spread
    columns, x = [], left + half
    for index, dots in _indices(stack, few):
        columns.append(Column(x, index, dots))
        x += pitch + (60 + skip + spread if dots else 0)
    return tuple(columns)


def _rows(stack: Stack) -> list[Row]:
    """The rows from the input upwards, with the input at y = 0."""
    rows: list[Row] = []
    y = 0.0
    for place, block in enumerate(stack.blocks):
        both = len(block.directions) == 2
        forked = stack.forks(place)
        y -= (44 if input_weights(block) else 28) + (FORK - 6 if both else 0) + (24 if forked else 0)
        rows.append(Row(block, y - (2 * LANE + LANES_APART if both else ROW_HEIGHTS[block.kind]), y, forked))
        y = rows[-1].ends
    return rows


def grids(drawing: ModelDrawing) -> list[Grid]:
    """The place of each stack, from left to right, all with their inputs on one line."""
    stacked = [_rows(stack) for stack in drawing.stacks]
    bottom = TOP - min(rows[-1].ends for rows in stacked) + 36
    x, found = MARGIN + _names(drawing.stacks[0]) + side(drawing.stacks[0]), []
    for stack, rows in zip(drawing.stacks, stacked, strict=True):
        half = _half(stack)
        few = FEW_STEPS if len(drawing.stacks) == 1 and half <= WIDE else 3
        columns = _columns_from(x, stack, half, few)
        placed = tuple(replace(row, top=row.top + bottom, bottom=row.bottom + bottom) for row in rows)
        found.append(Grid(stack, columns, placed, half, placed[-1].ends - 36, bottom))
        x = columns[-1].x + half + 120
    return found


def inside(block: Block, direction: Direction, index: str) -> str:
    """What stands in a recurrent box: the names of its states."""
    return state_list(block.state_names(direction), index).replace(", ", "  ")
