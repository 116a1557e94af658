"""The basic structure: one step of the model, with a loop and a delay where the state comes back.

Input at the bottom, output at the top. Left the diagram, right a card for each block: equations,
weights, state, and what training does to it.
"""

from elman.plots import theme
from elman.plots.canvas import Area, Canvas, Disc, Label, Line, Rectangle, arrow, centred
from elman.plots.drawing import Block, Direction, ModelDrawing, Stack, Weight
from elman.plots.quantities import (
    full_shape,
    grouped,
    in_bytes,
    legend,
    state_list,
    times,
    weight_shape,
)
from elman.plots.text import fitted, width

MARGIN = 36.0
CENTRE = 236.0
BOX_WIDTH = 160.0
LOOP = 88.0
CARD_LEFT = 462.0
CARD_RIGHT = 1024.0
WIDTH = CARD_RIGHT + MARGIN
TABLE = 738.0
NAME = 42.0
LINE = 23.0
GAP = 50.0
SKIP_BELOW = 28.0
SKIP_ABOVE = 26.0
TIE = 22.0


def basic(drawing: ModelDrawing) -> Canvas:
    """The picture."""
    canvas = Canvas(f"{drawing.title}: basic structure")
    loop = ", and a loop that brings the state back" if drawing.state_numbers else ""
    heading(canvas, drawing.title, f"Basic structure ({drawing.shape}): one step{loop}")
    y = 92.0
    boxes: list[list[Area]] = []
    for stack in reversed(drawing.stacks):
        found, y = _stack(canvas, drawing, stack, y)
        boxes.insert(0, found)
    _ties(canvas, drawing, boxes)
    if len(drawing.stacks) == 2:
        _handover(canvas, drawing, boxes)
        _memory(canvas, drawing, boxes)
    y = totals(canvas, _statistics(drawing), y + 10, CARD_RIGHT)
    y = letters(
        canvas, [*legend(drawing), ("x_t, y_t", "in a card: what enters and what leaves that block")], y + 30
    )
    return canvas.close((WIDTH, y + 26))


def heading(canvas: Canvas, title: str, subtitle: str, room: float = CARD_RIGHT - MARGIN) -> None:
    """Title and subtitle; a title wider than `room` is cut off."""
    canvas.add(
        Label(MARGIN, 50, fitted(title, theme.TITLE, room, bold=True), theme.TITLE, bold=True),
        Label(MARGIN, 75, subtitle, theme.BODY, colour=theme.MUTED),
    )


# Layout: where the boxes stand


def _lines(block: Block) -> int:
    left = len(block.equations) + bool(block.states)
    return max(left, len(_table(block))) + len(block.remarks)


def _row_height(block: Block) -> float:
    if block.kind == "dropout":
        return 32.0
    return max(48 + LINE * _lines(block), 116.0 if block.states else 0.0)


def _rows(stack: Stack, y: float) -> tuple[list[tuple[float, float]], float]:
    """Top and bottom of each block's row, from the input upwards, and the y of the input's name below them."""
    rows: list[tuple[float, float]] = []
    for block in reversed(stack.blocks):
        gap = GAP + (SKIP_ABOVE if block.residual else 0)
        gap += SKIP_BELOW if rows and stack.forks(len(stack.blocks) - len(rows)) else 0
        rows.insert(0, (y + gap, y + gap + _row_height(block)))
        y = rows[0][1]
    return rows, y + GAP + (SKIP_BELOW if stack.forks(0) else 0)


def _box(top: float, bottom: float) -> Area:
    return Area(CENTRE - BOX_WIDTH / 2, top, CENTRE + BOX_WIDTH / 2, bottom)


# Drawing


def _stack(canvas: Canvas, drawing: ModelDrawing, stack: Stack, y: float) -> tuple[list[Area], float]:
    """One stack from y downwards; its boxes, from the input upwards, and the y below it."""
    rows, end = _rows(stack, y + 32)
    boxes = [_box(*row) for row in rows]
    edges = [end, *(box.top for box in boxes)]
    for place, (block, box) in enumerate(zip(stack.blocks, boxes, strict=True)):
        _arrow_into(canvas, drawing, stack, place, (edges[place], box.bottom))
        if block.residual:
            edges[place + 1] = _skip(canvas, block, box, boxes[place - block.residual + 1])
        _loops(canvas, block, box)
        _draw_box(canvas, block, box)
        _card(canvas, drawing, block, *rows[place])
    if stack.writes != "none":
        _arrow_into(canvas, drawing, stack, len(boxes), (edges[-1], y + 32))
        _signal(
            canvas,
            stack.output.at("t" if stack.writes == "every" else stack.time),
            stack.output.meaning,
            y + 16,
        )
    if len(drawing.stacks) == 2:
        canvas.add(Label(MARGIN, y + 22, stack.name, theme.HEADING, bold=True))
    _signal(canvas, stack.input.at("t" if stack.reads == "every" else "1"), stack.input.meaning, end + 16)
    return boxes, end + 46


def _signal(canvas: Canvas, name: str, meaning: str, y: float) -> None:
    label = centred(CENTRE, y, name, size=20, style="math")
    canvas.add(label, Label(CENTRE + 26, label.y - 1, meaning, theme.BODY, colour=theme.MUTED))


def _arrow_into(
    canvas: Canvas, drawing: ModelDrawing, stack: Stack, place: int, span: tuple[float, float]
) -> None:
    """The arrow into block `place` (or the output) with its weight's name and the tensor's shape."""
    start, end = span
    block = stack.blocks[place] if place < len(stack.blocks) else None
    weights = input_weights(block) if block else []
    colour = weight_colour(weights[0]) if weights else theme.INK
    middle = name_y = (start + end) / 2 + 7
    if block and stack.forks(place):
        # what goes around the block is not multiplied by the block's weight
        fork = end + SKIP_BELOW
        canvas.add(Line(((CENTRE, start), (CENTRE, fork))))
        start, middle, name_y = fork, (start + fork) / 2 + 5, end + SKIP_BELOW / 2 + 6
    canvas.add(arrow((CENTRE, start), (CENTRE, end), colour=colour))
    if weights:
        names = " ".join(weight.name for weight in weights)
        canvas.add(Label(CENTRE - 12, name_y, names, theme.MATH, "math", colour, "end", bold=True))
    right = CENTRE + 14
    if block and block.residual > 1:
        # beside the residual connection, which runs past this arrow
        right = _skip_x(block) + 14
    tensor(canvas, right, middle, *full_shape(drawing, stack, place - 1))


def tensor(
    canvas: Canvas, x: float, y: float, names: list[str], sizes: list[int], colour: str = theme.INK
) -> float:
    """A tensor's shape in letters and in numbers, from x to the right; returns where it ends."""
    letters = Label(x, y, f"({', '.join(names)})", theme.INDEX, "math", colour)
    numbers = Label(x + letters.width + 10, y, times(sizes), theme.SMALL, colour=theme.MUTED)
    canvas.add(letters, numbers)
    return numbers.area.right


def input_weights(block: Block) -> list[Weight]:
    """The weights that multiply what comes from below."""
    return [
        w
        for w in block.weights
        if w.role in ("embedding", "input") or (block.kind == "dense" and w.role == "output")
    ]


def weight_colour(weight: Weight) -> str:
    """The colour of a weight; a tied one has the colour of the embedding that it is."""
    return theme.EMBEDDING if weight.tied_to else theme.WEIGHTS[weight.role]


def _draw_box(canvas: Canvas, block: Block, box: Area) -> None:
    """A block: its name in a box of its kind's look."""
    dash = (4.0, 3.0) if block.kind == "dropout" else ()
    stroke = theme.MUTED if block.kind in ("dropout", "norm") else theme.INK
    canvas.add(Rectangle(box, theme.FILLS[block.kind], stroke, dash=dash))
    middle = (box.top + box.bottom) / 2
    name = fitted(block.name, theme.BODY, BOX_WIDTH - 16)
    canvas.add(centred((box.left + box.right) / 2, middle, name))


def _skip_x(block: Block) -> float:
    return CENTRE + BOX_WIDTH / 2 + (LOOP + 36 if "backward" in block.directions else 26)


def _skip(canvas: Canvas, block: Block, box: Area, lowest: Area) -> float:
    """The residual connection from below the lowest box to above this one; returns the y from which the sum goes on."""
    right, below, above = _skip_x(block), lowest.bottom + SKIP_BELOW, box.top - SKIP_ABOVE
    canvas.add(
        Line(((CENTRE, box.top), (CENTRE, above))),
        arrow((CENTRE, below), (right, below), (right, above), (CENTRE + 9, above)),
        Disc((CENTRE, below), 3, theme.INK),
    )
    plus(canvas, CENTRE, above)
    return above - 9


def plus(canvas: Canvas, x: float, y: float) -> None:
    """The sign of a sum."""
    canvas.add(
        Disc((x, y), 9, theme.PAPER, theme.INK),
        Line(((x - 5, y), (x + 5, y))),
        Line(((x, y - 5), (x, y + 5))),
    )


def _loops(canvas: Canvas, block: Block, box: Area) -> None:
    for direction in block.directions:
        _loop(canvas, block, box, direction)


def _loop(canvas: Canvas, block: Block, box: Area, direction: Direction) -> None:
    """The state leaves a side of the box, waits a step and comes back through its weight: left →, right ←."""
    side, near = (-1, box.left) if direction == "forward" else (1, box.right)
    far, middle = near + side * LOOP, (box.top + box.bottom) / 2
    out, back = box.top + 18, box.bottom - 18
    loop = arrow((near, out), (far, out), (far, back), (near, back), colour=theme.RECURRENT)
    delay = Area(far - 25, middle - 11, far + 25, middle + 11)
    canvas.add(loop, Rectangle(delay, theme.PAPER, theme.RECURRENT, radius=4))
    canvas.add(centred(far, middle, "delay", size=theme.SMALL, colour=theme.RECURRENT))
    names, before = block.state_names(direction), "t−1" if direction == "forward" else "t+1"
    label = (near + far) / 2
    canvas.add(
        Label(label, out - 7, _beside_loop(names, "t"), theme.INDEX, "math", theme.INK, "middle"),
        Label(label, back + 16, _beside_loop(names, before), theme.INDEX, "math", theme.INK, "middle"),
    )
    weight = block.weight("recurrent", direction=direction)
    if weight:
        beside = near + side * 28
        canvas.add(
            Label(beside, back - 7, weight.name, theme.MATH, "math", theme.RECURRENT, "middle", bold=True)
        )


def _beside_loop(names: tuple[str, ...], index: str) -> str:
    whole = state_list(names, index)
    return whole if width(whole, theme.INDEX, "math") < LOOP else f"{state_list(names[:1], index)}, …"


# Cards


def _table(block: Block) -> list[tuple[str, str, str, str]]:
    """Name, shape, count and colour of each weight; a tied one counts nothing."""
    counts = [f"tied to {w.tied_to}" if w.tied_to else grouped(w.count) for w in block.weights]
    return [
        (w.name, weight_shape(w), n, weight_colour(w)) for w, n in zip(block.weights, counts, strict=True)
    ]


def _card(canvas: Canvas, drawing: ModelDrawing, block: Block, top: float, bottom: float) -> None:
    left, right, y = CARD_LEFT + 18, CARD_RIGHT - 18, top + 26
    if block.kind == "dropout":
        canvas.add(Label(left, (top + bottom) / 2 + 5, block.equations[0], theme.SMALL, colour=theme.MUTED))
        return
    title = Label(left, y, block.name, theme.HEADING, bold=True)
    sizes = f"{grouped(block.input_size)} → {grouped(block.output_size)}"
    canvas.add(
        Rectangle(Area(CARD_LEFT, top, CARD_RIGHT, bottom), theme.PANEL),
        title,
        Label(left + title.width + 14, y, sizes, theme.SMALL, colour=theme.MUTED),
        Label(right, y, grouped(block.parameters), theme.HEADING, anchor="end", bold=True),
    )
    room = _weights(canvas, block, right, y + 2) - left - 12
    for line, formula in enumerate(block.equations, 1):
        size = theme.INDEX * min(1.0, room / width(formula, theme.INDEX, "math"))
        canvas.add(Label(left, y + LINE * line + 2, formula, size, "math"))
    if block.states:
        last = y + LINE * (len(block.equations) + 1) + 2
        canvas.add(Label(left, last, _state_line(drawing, block, room), theme.SMALL, colour=theme.RECURRENT))
    for line, remark in enumerate(block.remarks, _lines(block) - len(block.remarks) + 1):
        canvas.add(Label(left, y + LINE * line + 2, remark, theme.SMALL, colour=theme.MUTED))


def _weights(canvas: Canvas, block: Block, right: float, y: float) -> float:
    """The weights below y, a line each: name, shape, count; returns where they begin."""
    rows = _table(block)
    wide = [max((width(row[column], theme.SMALL) for row in rows), default=0.0) for column in (1, 2)]
    named = max(NAME, *(width(row[0], theme.MATH, "math", bold=True) + 10 for row in rows), 0.0)
    table = min(TABLE, right - sum(wide) - 14 - named)
    for line, (name, shape, number, colour) in enumerate(rows, 1):
        at = y + LINE * line
        canvas.add(
            Label(table, at, name, theme.MATH, "math", colour, bold=True),
            Label(table + named, at, shape, theme.SMALL, colour=theme.MUTED),
            Label(right, at, number, theme.SMALL, colour=theme.MUTED, anchor="end"),
        )
    return table


def _state_line(drawing: ModelDrawing, block: Block, room: float) -> str:
    names, sizes = [state.name for state in block.states], [state.size for state in block.states]
    alike = len(sizes) > 1 and len(set(sizes)) == 1
    count = f"{len(sizes)} × {grouped(sizes[0])}" if alike else " + ".join(map(grouped, sizes))
    size = in_bytes(block.state_numbers * drawing.number_bytes)
    line = f"state {', '.join(names)}: {count} ({size})"
    return line if width(line, theme.SMALL) <= room else f"state: {grouped(block.state_numbers)} ({size})"


# What joins blocks, and the foot


def _ties(canvas: Canvas, drawing: ModelDrawing, boxes: list[list[Area]]) -> None:
    """A dashed line from each tied weight's block to the block that owns the numbers."""
    placed = [
        (weight, area)
        for stack, areas in zip(drawing.stacks, boxes, strict=True)
        for block, area in zip(stack.blocks, areas, strict=True)
        for weight in block.weights
    ]
    owners = {weight.name: area for weight, area in placed if not weight.tied_to}
    for weight, area in placed:
        if weight.tied_to:
            upper, lower = (
                (area.top + area.bottom) / 2,
                (owners[weight.tied_to].top + owners[weight.tied_to].bottom) / 2,
            )
            points = ((area.left, upper), (TIE, upper), (TIE, lower), (area.left, lower))
            canvas.add(Line(points, theme.EMBEDDING, dash=(5, 4)))
            name = f"{weight.name} = {weight.tied_to}"
            canvas.add(Label(TIE + 14, upper - 8, name, theme.MATH, "math", theme.EMBEDDING, bold=True))


def _handover(canvas: Canvas, drawing: ModelDrawing, boxes: list[list[Area]]) -> None:
    """The encoder's final state goes to the decoder's first."""
    encoder, decoder = drawing.stacks
    source, target = boxes[0][encoder.core[1]], boxes[1][decoder.core[0]]
    target_block = decoder.blocks[decoder.core[0]]
    far = source.left - LOOP - 25
    start = far if encoder.blocks[encoder.core[1]].states else source.left
    upper, lower = (target.top + target.bottom) / 2, (source.top + source.bottom) / 2
    canvas.add(
        arrow(
            (start, lower),
            (TIE + 8, lower),
            (TIE + 8, upper),
            (far, upper),
            colour=theme.RECURRENT,
            dash=(5, 4),
        )
    )
    note = Label(
        TIE + 18,
        boxes[1][0].bottom + 30,
        "final state" if start == far and not target_block.looks else "first state",
        theme.SMALL,
        colour=theme.RECURRENT,
    )
    canvas.add(note)


def _memory(canvas: Canvas, drawing: ModelDrawing, boxes: list[list[Area]]) -> None:
    """What the encoder gives at all its steps goes to the block of the decoder that looks at it."""
    top, right = boxes[0][-1], CENTRE + BOX_WIDTH / 2
    for block, box in zip(drawing.stacks[1].blocks, boxes[1], strict=True):
        if block.looks:
            middle, far = (box.top + box.bottom) / 2, right + LOOP + 42
            points = (
                (CENTRE, top.top),
                (CENTRE, top.top - 16),
                (far, top.top - 16),
                (far, middle),
                (box.right, middle),
            )
            canvas.add(arrow(*points, colour=theme.MEMORY, halo=theme.PAPER))
            names = Label(box.right + 12, middle - 8, "m_1 … m_S", theme.INDEX, "math", theme.MEMORY)
            canvas.add(names)


def _statistics(drawing: ModelDrawing) -> list[tuple[str, str, str]]:
    width, state = drawing.number_bytes, drawing.state_numbers
    batch = drawing.batch * state
    return [
        (
            "parameters",
            grouped(drawing.parameters),
            f"{in_bytes(drawing.parameters * width)} as {drawing.dtype}",
        ),
        ("state of one sequence", f"{grouped(state)} numbers", in_bytes(state * width)),
        (f"state of the batch (B = {drawing.batch})", f"{grouped(batch)} numbers", in_bytes(batch * width)),
    ]


def totals(
    canvas: Canvas, statistics: list[tuple[str, str, str]], y: float, right: float, *, left: float = MARGIN
) -> float:
    """Cards of one number each, side by side; returns the y below."""
    wide = (right - left - 14 * (len(statistics) - 1)) / len(statistics)
    for name, number, note in statistics:
        canvas.add(
            Rectangle(Area(left, y, left + wide, y + 92), theme.PANEL),
            Label(left + 18, y + 27, name, theme.SMALL, colour=theme.MUTED),
            Label(left + 18, y + 53, number, 19, bold=True),
            Label(left + 18, y + 77, note, theme.SMALL, colour=theme.MUTED),
        )
        left += wide + 14
    return y + 92


def letters(canvas: Canvas, meanings: list[tuple[str, str]], y: float, right: float = CARD_RIGHT) -> float:
    """What the letters of the shapes mean; returns the last baseline."""
    x = MARGIN
    for letter, meaning in meanings:
        name = Label(x, y, letter, theme.MATH, "math", bold=True)
        note = Label(x + name.width + 7, y, meaning, theme.SMALL, colour=theme.MUTED)
        if note.area.right > right:
            y += LINE + 2
            name = Label(MARGIN, y, letter, theme.MATH, "math", bold=True)
            note = Label(MARGIN + name.width + 7, y, meaning, theme.SMALL, colour=theme.MUTED)
        canvas.add(name, note)
        x = note.area.right + 26
    return y
