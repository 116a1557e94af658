"""Blocks for the usual layers, with the parameter counts of torch.nn.

Weights are named as in the equations: E embedding, U from the input, W from the previous state, V to the output; layer
numbers below (`U_2`), a prime for the backward direction (`U′_2`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from elman.plots.drawing import Block, Direction, Role, State, Weight

Merge = Literal["concat", "sum", "mean", "product"]
MERGES: dict[Merge, str] = {
    "concat": "[{0}_t ; {0}′_t]",
    "sum": "{0}_t + {0}′_t",
    "mean": "({0}_t + {0}′_t) / 2",
    "product": "{0}_t ⊙ {0}′_t",
}


@dataclass(frozen=True, slots=True)
class Cell:
    """A kind of recurrent layer: `gates` products of width H, its states, how many bias vectors and equations.

    `sums_biases`: both biases only ever act as their sum, and one name stands for both.
    """

    name: str
    gates: int
    states: tuple[str, ...]
    biases: int
    sums_biases: bool
    equations: tuple[str, ...]
    stepwise: tuple[str, ...] = ()

    @property
    def long_equations(self) -> tuple[str, ...]:
        """The equations in smaller steps, for cells with more in them than the plain one."""
        return self.stepwise or self.equations


CELLS: dict[str, Cell] = {
    "rnn": Cell("Elman", 1, ("s",), 2, True, ("a_t = U x_t + W s_{t−1} + b", "s_t = {activation}(a_t)")),
    "lstm": Cell(
        "LSTM",
        4,
        ("h", "c"),
        2,
        True,
        (
            "i, f, o = σ(U x_t + W h_{t−1} + b)",
            "g = tanh(U x_t + W h_{t−1} + b)",
            "c_t = f ⊙ c_{t−1} + i ⊙ g",
            "h_t = o ⊙ tanh(c_t)",
        ),
        (
            "a = U x_t + W h_{t−1} + b",
            "i, f, o = σ(a)    g = tanh(a)",
            "c_t = f ⊙ c_{t−1} + i ⊙ g",
            "h_t = o ⊙ tanh(c_t)",
        ),
    ),
    "gru": Cell(
        "GRU",
        3,
        ("h",),
        2,
        False,
        (
            "r, z = σ(U x_t + b + W h_{t−1} + d)",
            "n = tanh(U x_t + b + r ⊙ (W h_{t−1} + d))",
            "h_t = (1 − z) ⊙ n + z ⊙ h_{t−1}",
        ),
    ),
    "mgu": Cell(
        "MGU",
        2,
        ("h",),
        1,
        False,
        (
            "f = σ(U x_t + W h_{t−1} + b)",
            "n = tanh(U x_t + W (f ⊙ h_{t−1}) + b)",
            "h_t = (1 − f) ⊙ h_{t−1} + f ⊙ n",
        ),
    ),
}


def embedding(count: int, size: int, *, letter: str = "I") -> Block:
    """A table E of `count` rows of `size` numbers; the input is the number of a row."""
    table = Weight("E", (count, size), "embedding")
    return Block("embedding", "embedding", count, size, letter, (table,), equations=("row x_t of E",))


def dropout(size: int, probability: float, *, note: str = "") -> Block:
    """Numbers set to 0 with `probability` while training; `note` says how masks are drawn."""
    equation = f"in training, {100 * probability:.3g} % of the numbers become 0{'; ' + note if note else ''}"
    return Block(f"dropout {probability:.4g}", "dropout", size, size, equations=(equation,))


def layer_norm(size: int) -> Block:
    """Layer normalization with gain and bias."""
    weights = (Weight("γ", (size,), "scale"), Weight("β", (size,), "bias"))
    return Block("layer norm", "norm", size, size, "", weights, equations=("y = γ ⊙ (x − mean) / std + β",))


def dense(
    input_size: int,
    output_size: int,
    *,
    letter: str = "V",
    activation: str = "softmax",
    bias: bool = True,
    tied_to: str = "",
) -> Block:
    """o_t = V x_t + c, y_t = activation(o_t); an empty activation leaves o_t as it is."""
    matrix = Weight("V", (output_size, input_size), "output", tied_to=tied_to)
    weights = (matrix, Weight("c", (output_size,), "bias")) if bias else (matrix,)
    product = "V x_t + c" if bias else "V x_t"
    equations = (f"o_t = {product}", f"y_t = {activation}(o_t)") if activation else (f"y_t = {product}",)
    name = f"dense, {activation}" if activation else "dense"
    return Block(name, "dense", input_size, output_size, letter, weights, equations=equations)


def recurrent_blocks(
    kind: str,
    input_size: int,
    hidden_sizes: Sequence[int],
    *,
    bidirectional: bool = False,
    merge: Merge = "concat",
    bias: bool = True,
    residual: bool = False,
    projection: int = 0,
    activation: str = "tanh",
    between: float = 0.0,
    parameters: Mapping[str, Sequence[int]] | None = None,
    remarks: Sequence[str] = (),
) -> tuple[Block, ...]:
    """A stack of recurrent layers, one width each; kind: rnn, lstm, gru (counts of torch.nn) or mgu.

    Args:
        kind: a key of `CELLS`.
        input_size: numbers into the first layer.
        hidden_sizes: H of each layer, from the input upwards.
        bidirectional: each layer runs in both directions, with weights of its own for each.
        merge: how the outputs of the two directions become one; "concat" doubles the width.
        bias: whether the layers have biases.
        residual: add a layer's input, before dropout, to its output wherever both have one size.
        projection: LSTM only: h is projected to this many numbers (proj_size of torch.nn); 0: not.
        activation: f of an Elman layer.
        between: probability of dropout between two layers; 0: none.
        parameters: shapes of the layers' parameters by torch's names (`weight_ih_l0`, `bias_hh_l1_reverse`); with them,
            weights and equations are those of that very module, layer norm, peepholes and all. None: the plain layers'.
        remarks: lines under the equations of each layer, such as "zoneout 0.1".

    Raises:
        ValueError: unknown kind, a projection for a cell that has none, or a layer without parameters.
    """
    if kind not in CELLS:
        raise ValueError(f"unknown kind {kind!r}; the kinds are {', '.join(CELLS)}")
    if projection and kind != "lstm":
        raise ValueError(f"projection={projection}: only an lstm has a projection, not {kind}")
    blocks: list[Block] = []
    alike = projection or len(set(hidden_sizes)) == 1
    for place, hidden_size in enumerate(hidden_sizes):
        number = str(place + 1) if len(hidden_sizes) > 1 else ""
        layer = Layer(
            CELLS[kind], input_size, hidden_size, projection, bias, number, activation, tuple(remarks)
        )
        letter = ("P" if projection else "H") + ("" if alike else f"_{number}")
        shapes = None if parameters is None else _of_layer(parameters, place)
        block = layer.block(letter, merge if bidirectional else None, shapes)
        dropped = bool(between and place)
        blocks += [dropout(input_size, between)] if dropped else []
        added = residual and block.input_size == block.output_size
        # what is added has not gone through the dropout
        blocks.append(replace(block, residual=int(added) * (1 + dropped)))
        input_size = block.output_size
    return tuple(blocks)


def _of_layer(
    parameters: Mapping[str, Sequence[int]], place: int
) -> dict[Direction, dict[str, tuple[int, ...]]]:
    """The parameters of a layer by direction, without the ends of their names."""
    ends: dict[Direction, str] = {"forward": f"_l{place}", "backward": f"_l{place}_reverse"}
    found: dict[Direction, dict[str, tuple[int, ...]]] = {
        direction: {
            name.removesuffix(end): tuple(shape) for name, shape in parameters.items() if name.endswith(end)
        }
        for direction, end in ends.items()
    }
    if not found["forward"]:
        raise ValueError(
            f"no parameter of layer {place} (a name that ends in _l{place}) among {', '.join(parameters)}"
        )
    return found


# Name in torch.nn and elman.nn: letter in the picture, what is below it, what it does.
PARAMETERS: dict[str, tuple[str, str, Role]] = {
    "weight_ih": ("U", "", "input"),
    "weight_hh": ("W", "", "recurrent"),
    "bias_ih": ("b", "", "bias"),
    "bias_hh": ("d", "", "bias"),
    "weight_hr": ("P", "", "output"),
    "weight_ci": ("p", "i", "scale"),
    "weight_cf": ("p", "f", "scale"),
    "weight_co": ("p", "o", "scale"),
    "gain_ih": ("γ", "U", "scale"),
    "gain_hh": ("γ", "W", "scale"),
    "gain_sum": ("γ", "", "scale"),
    "gain_cell": ("γ", "c", "scale"),
    "bias_cell": ("β", "c", "bias"),
    "initial_h": ("h", "0", "bias"),
    "initial_c": ("c", "0", "bias"),
}


@dataclass(frozen=True, slots=True)
class Layer:
    """One recurrent layer of a stack; `number` counts from 1 and is empty where there is only one."""

    cell: Cell
    input_size: int
    hidden_size: int
    projection: int
    bias: bool
    number: str
    activation: str
    remarks: tuple[str, ...]

    def block(
        self, letter: str, merge: Merge | None, shapes: dict[Direction, dict[str, tuple[int, ...]]] | None
    ) -> Block:
        """The layer as a block; merge: how two directions become one, None for one direction."""
        directions: tuple[Direction, ...] = ("forward", "backward") if merge else ("forward",)
        own = shapes or dict.fromkeys(directions, self.plain_shapes())
        joined = f"y_t = {MERGES[merge].format(self.cell.states[0])}" if merge else ""
        equations = (*self.equations(own["forward"]), joined, *self.remarks)
        return Block(
            f"{self.cell.name}{' layer ' + self.number if self.number else ''}",
            "recurrent",
            self.input_size,
            (self.projection or self.hidden_size) * (2 if merge == "concat" else 1),
            ("2" if merge == "concat" else "") + letter,
            tuple(weight for direction in directions for weight in self.weights(direction, own[direction])),
            tuple(state for direction in directions for state in self.states(direction)),
            tuple(line for line in equations if line),
        )

    def plain_shapes(self) -> dict[str, tuple[int, ...]]:
        """The parameters of a direction, as torch.nn has them."""
        H = self.hidden_size
        rows = self.cell.gates * H
        shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, self.input_size)}
        shapes["weight_hh"] = (rows, self.projection or H)
        if self.bias:
            shapes |= dict.fromkeys(("bias_ih", "bias_hh")[: self.cell.biases], (rows,))
        return shapes | ({"weight_hr": (self.projection, H)} if self.projection else {})

    def weights(self, direction: Direction, shapes: dict[str, tuple[int, ...]]) -> list[Weight]:
        """The weights of a direction; two biases that only ever act as their sum stand as one name."""
        prime = "′" if direction == "backward" else ""
        found = []
        for name, shape in shapes.items():
            letter, below, role = PARAMETERS.get(name, (name.replace("_", " "), "", "scale"))
            letter = self.cell.states[0] if name == "initial_h" else letter
            both = self.cell.sums_biases and name == "bias_ih" and "bias_hh" in shapes
            if self.cell.sums_biases and name == "bias_hh" and "bias_ih" in shapes:
                continue
            index = ",".join(part for part in (below, self.number) if part)
            found.append(
                Weight(
                    f"{letter}{prime}" + (f"_{{{index}}}" if index else ""),
                    shape,
                    role,
                    2 if both else 1,
                    direction=direction,
                )
            )
        return found

    def states(self, direction: Direction) -> list[State]:
        """What a direction carries."""
        prime = "′" if direction == "backward" else ""
        return [
            State(name + prime, (self.projection if name == "h" else 0) or self.hidden_size, direction)
            for name in self.cell.states
        ]

    def equations(self, shapes: dict[str, tuple[int, ...]]) -> list[str]:
        """The cell's equations with what the parameters tell: biases, layer norm, peepholes, coupled gates."""
        h = f"W {self.cell.states[0]}_{{t−1}}"
        norm = {"U x_t": "LN(U x_t)", h: f"LN({h})"} if "gain_ih" in shapes else {}
        norm |= {f"U x_t + {h}": f"LN(U x_t + {h})"} if "gain_sum" in shapes else {}
        changes = {"{activation}": self.activation} | norm
        changes |= {} if "bias_ih" in shapes else {" + b": "", " + d": ""}
        changes |= {"tanh(c_t)": "tanh(LN(c_t))"} if "gain_cell" in shapes else {}
        changes |= {"σ(a)": "σ(a + p ⊙ c)"} if "weight_ci" in shapes else {}
        changes |= {"h_t = o ⊙ tanh(c_t)": "h_t = P (o ⊙ tanh(c_t))"} if self.projection else {}
        if self.cell.name == "LSTM" and shapes["weight_ih"][0] == 3 * self.hidden_size:
            changes |= {"i, f, o": "i, o", "c_t = f ⊙": "c_t = (1 − i) ⊙"}
        long = {"gain_ih", "gain_sum", "weight_ci"} & shapes.keys()
        lines = list(self.cell.long_equations if long else self.cell.equations)
        for old, new in changes.items():
            lines = [line.replace(old, new) for line in lines]
        return lines
