"""The unfolded structure: a copy of the model for each step, joined by the state, all with the same weights.

Time runs to the right; the first and the last step and three in the middle are drawn, or all where they are few. Each
row is one block; the arrows of one weight have one colour and one name at every step.
"""

from itertools import pairwise

from elman.plots import theme
from elman.plots.basic import MARGIN, heading, input_weights, letters, plus, tensor, totals, weight_colour
from elman.plots.canvas import Anchor, Canvas, Disc, Label, Line, Point, Rectangle, arrow, centred
from elman.plots.drawing import INDEX_BYTES, Block, Direction, ModelDrawing, Signal, Stack, Weight
from elman.plots.grid import ASIDE, LANE, NARROWEST_HALF, SKIP, TOP, Column, Grid, Row, grids, inside, side
from elman.plots.looking import memory_wires
from elman.plots.quantities import grouped, has_time, in_bytes, legend, state_list, step_shape
from elman.plots.text import fitted, width

NARROWEST = 880.0
SHORT_NAMES = {
    "embedding": "embed",
    "norm": "norm",
    "dropout": "dropout",
    "attention": "attention",
}


def unfolded(drawing: ModelDrawing) -> Canvas:
    """The picture."""
    canvas = Canvas(f"{drawing.title}: unfolded over time")
    steps = " and ".join(f"{stack.time} = {stack.steps}" for stack in drawing.timed)
    plural = "s" if max(stack.steps for stack in drawing.stacks) > 1 else ""
    about = f"Unfolded over {steps} step{plural} ({drawing.shape}): a copy of the network for each step"
    heading(canvas, drawing.title, about, NARROWEST - MARGIN)
    placed = grids(drawing)
    for grid in placed:
        _wires(canvas, grid)
        if grid.stack in drawing.timed:
            _axis(canvas, grid)
        if grid.stack.steps > 1:
            _bracket(canvas, grid)
    _states(canvas, placed)
    if len(placed) == 2:
        memory_wires(canvas, *placed)
    for grid in placed:
        _boxes(canvas, grid)
    _row_names(canvas, placed[0])
    edge = max(_row_shapes(canvas, drawing, placed[-1]), NARROWEST)
    y = _statistics(canvas, drawing, placed[0].bottom + 112, edge)
    y = letters(canvas, legend(drawing), y + 30, edge)
    return canvas.close((edge + MARGIN, y + 26))


# Columns: what happens at one step


def _wires(canvas: Canvas, grid: Grid) -> None:
    """All arrows upwards, and the names of input and output."""
    stack, last = grid.stack, len(grid.rows) - 1
    for number, column in enumerate(grid.columns):
        starts = [grid.bottom, *(row.ends for row in grid.rows)]
        for place, row in enumerate(grid.rows):
            if row.block.gathers and number < len(grid.columns) - 1:
                _gather(canvas, row, column.x, grid, starts[place])
            elif grid.has(place - 1, number):
                _arrows_up(canvas, row, column.x, grid.passes, starts[place])
            if grid.has(place, number):
                _join(canvas, row, column.x, grid.passes)
                _skip(canvas, grid, place, number)
        if grid.has(-1, number):
            _signal(canvas, column, stack.input, grid.bottom + 15)
        if grid.has(last, number):
            canvas.add(arrow((column.x, starts[-1]), (column.x, grid.top)))
            _signal(canvas, column, stack.output, grid.top - 15)
    for before, after in pairwise(grid.columns):
        middle = (before.x + after.x) / 2
        for place, y in ((-1, grid.bottom + 17), (last, grid.top - 13)):
            if before.dots_after and has_time(stack, place):
                _dots(canvas, middle, y, theme.INK)


def _signal(canvas: Canvas, column: Column, signal: Signal, y: float) -> None:
    canvas.add(centred(column.x, y, signal.at(column.index), size=20, style="math"))


def _dots(canvas: Canvas, x: float, y: float, colour: str) -> None:
    canvas.add(*(Disc((x + shift, y), 2, colour) for shift in (-8, 0, 8)))


def _arrows_up(canvas: Canvas, row: Row, x: float, beside: float, start: float) -> None:
    """The arrow into a box, or its fork into the boxes of the two directions."""
    weights = input_weights(row.block)
    colour = weight_colour(weights[0]) if weights else theme.INK
    name_y = (start + row.bottom) / 2 + 8
    if row.forked:
        canvas.add(Line(((x, start), (x, row.forks))))
        start, name_y = row.forks, row.bottom + 20
    if row.both_ways:
        _fork(canvas, row, x, beside, start, weights)
        return
    canvas.add(arrow((x, start), (x, row.bottom), colour=colour))
    if weights:
        canvas.add(_weight_name(weights[0], x - 9, name_y, "end"))


def _gather(canvas: Canvas, row: Row, x: float, grid: Grid, start: float) -> None:
    """The line from a step's output to the box, in the last column, that makes one vector of all."""
    lane, end = row.bottom + 18, grid.columns[-1].x
    canvas.add(Line(((x, start), (x, lane), (end, lane))))


def _weight_name(weight: Weight, x: float, y: float, anchor: Anchor) -> Label:
    return Label(x, y, weight.name, theme.INDEX, "math", weight_colour(weight), anchor, bold=True)


def _fork(canvas: Canvas, row: Row, x: float, beside: float, start: float, weights: list[Weight]) -> None:
    """The arrow into both directions; `beside` is how far from x the forward box is passed."""
    canvas.add(Line(((x, start), (x, row.arrives))))
    ends = {"forward": (x - ASIDE, row.bottom), "backward": (x + beside, row.top + LANE)}
    for direction, end in ends.items():
        weight = next((w for w in weights if w.direction == direction), None)
        colour = weight_colour(weight) if weight else theme.INK
        canvas.add(arrow((x, row.arrives), (end[0], row.arrives), end, colour=colour))
        if weight is None:
            continue
        if direction == "forward":
            canvas.add(_weight_name(weight, end[0] - 9, row.bottom + 20, "end"))
        else:
            canvas.add(_weight_name(weight, end[0] + 9, row.bottom + 20, "start"))


def _join(canvas: Canvas, row: Row, x: float, beside: float) -> None:
    """What joins the boxes of the two directions above them."""
    if row.both_ways:
        for at, start in ((x - beside, row.bottom - LANE), (x + ASIDE, row.top)):
            canvas.add(Line(((at, start), (at, row.leaves), (x, row.leaves))))


def _boxes(canvas: Canvas, grid: Grid) -> None:
    """The boxes, on top of the arrows; where nothing arrives and nothing is carried there is none."""
    for number, column in enumerate(grid.columns):
        for place, row in enumerate(grid.rows):
            gathered = row.block.gathers and number < len(grid.columns) - 1
            if row.block.states or (grid.has(place - 1, number) and not gathered):
                _block(canvas, grid, row, column)


def _block(canvas: Canvas, grid: Grid, row: Row, column: Column) -> None:
    block = row.block
    for direction in block.directions or ("forward",):
        area = row.box(column.x, grid.half, direction)
        dash = (4.0, 3.0) if block.kind == "dropout" else ()
        stroke = theme.MUTED if block.kind in ("dropout", "norm") else theme.INK
        canvas.add(Rectangle(area, theme.FILLS[block.kind], stroke, dash=dash))
        middle = (area.left + area.right) / 2, (area.top + area.bottom) / 2
        if block.states:
            names = inside(block, direction, column.index)
            canvas.add(centred(*middle, names, size=theme.INDEX, style="math"))
        else:
            canvas.add(centred(*middle, _short_name(block), size=13))


def _short_name(block: Block) -> str:
    last = block.name.rsplit(", ", maxsplit=1)[-1].partition(": ")[0]
    return SHORT_NAMES.get(block.kind) or fitted(last, 13, 2 * NARROWEST_HALF - 10)


def _skip(canvas: Canvas, grid: Grid, place: int, number: int) -> None:
    """The residual connection that ends above a block, where there is one and something comes in."""
    row, x = grid.rows[place], grid.columns[number].x
    lowest = place - row.block.residual + 1
    if not row.block.residual or not grid.has(lowest - 1, number):
        return
    right, below = x + grid.half + SKIP, grid.rows[lowest].forks
    canvas.add(
        Line(((x, row.leaves), (x, row.sums))),
        arrow((x, below), (right, below), (right, row.sums), (x + 9, row.sums)),
        Disc((x, below), 3, theme.INK),
    )
    plus(canvas, x, row.sums)


# State: what joins the steps


def _states(canvas: Canvas, placed: list[Grid]) -> None:
    for number, grid in enumerate(placed):
        for row in grid.rows:
            for direction in row.block.directions:
                _between(canvas, grid, row, direction)
                _ends(canvas, grid, row, direction, first=number == 0, last=number == len(placed) - 1)
    if len(placed) == 2 and not any(row.block.looks for row in placed[1].rows):
        _handover(canvas, *placed)


def _state_line(*points: Point) -> Line:
    return arrow(*points, colour=theme.RECURRENT, halo=theme.PAPER)


def _name_state_weight(canvas: Canvas, row: Row, direction: Direction, x: float) -> None:
    weight = row.block.weight("recurrent", direction=direction)
    if weight:
        canvas.add(_weight_name(weight, x, row.lane(direction) - 9, "middle"))


def _between(canvas: Canvas, grid: Grid, row: Row, direction: Direction) -> None:
    """The state arrows from column to column."""
    y = row.lane(direction)
    shift = 7 if row.block.residual else 0
    for before, after in pairwise(grid.columns):
        start, end = (
            row.box(before.x, grid.half, direction).right,
            row.box(after.x, grid.half, direction).left,
        )
        left, right = before.x + grid.half, after.x - grid.half
        middle = (left + right) / 2
        stops = [(start, middle - 15), (middle + 15, end)] if before.dots_after else [(start, end)]
        for from_x, to_x in stops:
            points = ((from_x, y), (to_x, y))
            canvas.add(_state_line(*(points if direction == "forward" else points[::-1])))
        if before.dots_after:
            _dots(canvas, middle, y, theme.RECURRENT)
            _name_state_weight(canvas, row, direction, (left + middle - 15) / 2 + shift)
            _name_state_weight(canvas, row, direction, (right + middle + 15) / 2)
        else:
            _name_state_weight(canvas, row, direction, middle + shift - (4 if direction == "forward" else -4))


def _ends(canvas: Canvas, grid: Grid, row: Row, direction: Direction, *, first: bool, last: bool) -> None:
    """The state before the first step and after the last."""
    y, final, beyond = row.lane(direction), grid.columns[-1].index, _next(grid)
    forward = direction == "forward"
    names = row.block.state_names(direction)
    left, right = (
        row.box(grid.columns[0].x, grid.half, direction).left,
        row.box(grid.columns[-1].x, grid.half, direction).right,
    )
    if first:
        points = ((grid.left - grid.stub, y), (left, y))
        canvas.add(_state_line(*(points if forward else points[::-1])))
        name = state_list(names, "0") if forward else state_list(names, "1")
        canvas.add(Label(grid.left - grid.stub - 6, y + 5, name, theme.INDEX, "math", anchor="end"))
    if last:
        points = ((right, y), (grid.right + grid.stub, y))
        canvas.add(_state_line(*(points if forward else points[::-1])))
        name = state_list(names, final if forward else beyond)
        canvas.add(Label(grid.right + grid.stub + 6, y + 5, name, theme.INDEX, "math"))
    if first and forward:
        _name_state_weight(canvas, row, direction, grid.left - grid.stub / 2 - 2)
    if last and not forward:
        _name_state_weight(
            canvas, row, direction, grid.right + (grid.stub + (SKIP if row.block.residual else 0)) / 2 + 5
        )


def _next(grid: Grid) -> str:
    index = grid.columns[-1].index
    return str(int(index) + 1) if index.isdigit() else f"{index}+1"


def _handover(canvas: Canvas, encoder: Grid, decoder: Grid) -> None:
    """The encoder's last states start the decoder, layer by layer from the top; or its only output all layers."""
    targets = [row for row in decoder.rows if row.block.states]
    sources = [row for row in encoder.rows if row.block.states] or [encoder.rows[-1]] * len(targets)
    for source, target in zip(sources[::-1], targets[::-1], strict=False):
        start = source.box(encoder.columns[-1].x, encoder.half).right, source.lane("forward")
        end = target.box(decoder.columns[0].x, decoder.half).left, target.lane("forward")
        middle = (encoder.right + decoder.left) / 2
        bend = ((middle, start[1]), (middle, end[1])) if abs(start[1] - end[1]) > 1 else ()
        canvas.add(_state_line(start, *bend, end))
        name = state_list(source.block.state_names(), encoder.stack.time) or encoder.stack.output.name
        canvas.add(Label(encoder.right + 10, start[1] - 8, name, theme.INDEX, "math"))
        _name_state_weight(canvas, target, "forward", decoder.left - 24)


# Around the columns


def _axis(canvas: Canvas, grid: Grid) -> None:
    y = grid.bottom + 50
    canvas.add(arrow((grid.left, y), (grid.right + 18, y), colour=theme.MUTED))
    for column in grid.columns:
        steps = f" = {grid.stack.steps}" if column.index == grid.stack.time else ""
        canvas.add(
            Line(((column.x, y - 4), (column.x, y + 4)), theme.MUTED),
            centred(column.x, y + 19, f"{column.index}{steps}", size=theme.INDEX, style="math"),
        )


def _bracket(canvas: Canvas, grid: Grid) -> None:
    """What is shared, above all steps."""
    y = TOP - 50
    canvas.add(
        Line(
            ((grid.left, y + 8), (grid.left, y), (grid.right, y), (grid.right, y + 8)), theme.MUTED, radius=4
        )
    )
    weights = [w for row in grid.rows for w in row.block.weights if w.role not in ("bias", "scale")]
    labels = [(f"{w.name} = {w.tied_to}" if w.tied_to else w.name, weight_colour(w)) for w in weights]
    note = "the same at every step: shared over time"
    sizes = [width(name, theme.MATH, "math", bold=True) + 12 for name, _ in labels]
    if sum(sizes) + width(note, theme.SMALL) > grid.right - grid.left + 60:
        labels, sizes, note = [], [], "one set of weights, shared over time"
    x = (grid.left + grid.right - sum(sizes) - width(note, theme.SMALL)) / 2
    for (name, colour), size in zip(labels, sizes, strict=True):
        canvas.add(Label(x, y - 10, name, theme.MATH, "math", colour, bold=True))
        x += size
    canvas.add(Label(x, y - 10, note, theme.SMALL, colour=theme.MUTED))


def _row_names(canvas: Canvas, grid: Grid) -> None:
    names = [(row.middle, row.block.name) for row in grid.rows]
    names += [(grid.bottom + 15, "input"), (grid.bottom + 50, "time step")]
    names += [(grid.top - 15, "output")] if grid.stack.writes != "none" else []
    for y, name in names:
        canvas.add(Label(MARGIN, y + 5, name, theme.SMALL, colour=theme.INK))


def _row_shapes(canvas: Canvas, drawing: ModelDrawing, grid: Grid) -> float:
    """The shape of each arrow's tensor at one step, to the right of the columns; returns the right edge.

    Right of a decoder, the names of its rows stand there too.
    """
    x = grid.right + side(grid.stack) + 20
    named = len(drawing.stacks) == 2
    canvas.add(Label(x, TOP - 60, "shape at one step", theme.SMALL, colour=theme.MUTED))
    starts = [grid.bottom, *(row.ends for row in grid.rows)]
    ends = [*(row.bottom for row in grid.rows), grid.top]
    edge = x + 130
    for place, (start, end) in enumerate(zip(starts, ends, strict=True)):
        shape = step_shape(drawing, grid.stack, place - 1)
        edge = max(edge, tensor(canvas, x, (start + end) / 2 + 6, *shape))
    for row in grid.rows:
        for direction in row.block.directions:
            size = next(state.size for state in row.block.states if state.direction == direction)
            letter = (row.block.letter or "H").lstrip("23456789")
            y = row.lane(direction) + (16 if named else 5)
            tensor(canvas, x, y, ["B", letter], [drawing.batch, size], theme.RECURRENT)
        if named:
            y = row.middle - 5 if row.block.states else row.middle + 5
            canvas.add(Label(x, y, row.block.name, theme.SMALL, colour=theme.INK))
    return edge


# Sizes


def _statistics(canvas: Canvas, drawing: ModelDrawing, y: float, edge: float) -> float:
    fixed = [
        _size("weights", drawing.parameters, drawing),
        _size("state", drawing.batch * drawing.state_numbers, drawing),
    ]
    states = [stack.steps * sum(block.state_numbers for block in stack.blocks) for stack in drawing.stacks]
    last = drawing.stacks[-1]
    place = len(last.blocks) - 1
    # What is read before the first step, or said after the last, is as large for any number of steps.
    ends = [
        (_input_size(drawing), any(has_time(stack, -1) for stack in drawing.stacks)),
        (_size("output", _numbers(drawing, last, place), drawing), has_time(last, place)),
    ]
    fixed += [size for size, timed in ends if not timed]
    growing = [size for size, timed in ends if timed]
    growing.append(_size("states of all steps", drawing.batch * sum(states), drawing))
    time = " and ".join(stack.time for stack in drawing.timed)
    share = (edge - MARGIN - 14) * len(fixed) / len(fixed + growing)
    canvas.add(
        Label(MARGIN, y, f"the same for any {time}", theme.HEADING, bold=True),
        Label(MARGIN + share + 14, y, f"grows with {time}", theme.HEADING, bold=True),
    )
    below = totals(canvas, fixed, y + 14, MARGIN + share)
    return max(below, totals(canvas, growing, y + 14, edge, left=MARGIN + share + 14))


def _size(name: str, numbers: int, drawing: ModelDrawing) -> tuple[str, str, str]:
    return name, grouped(numbers), f"numbers, {in_bytes(numbers * drawing.number_bytes)}"


def _input_size(drawing: ModelDrawing) -> tuple[str, str, str]:
    numbers = [_numbers(drawing, stack, -1) for stack in drawing.stacks]
    each = [INDEX_BYTES if stack.input.size is None else drawing.number_bytes for stack in drawing.stacks]
    size = sum(count * width for count, width in zip(numbers, each, strict=True))
    return "input", grouped(sum(numbers)), f"numbers, {in_bytes(size)}"


def _numbers(drawing: ModelDrawing, stack: Stack, place: int) -> int:
    numbers = 1
    for size in step_shape(drawing, stack, place)[1]:
        numbers *= size
    return numbers * (stack.steps if has_time(stack, place) else 1)
