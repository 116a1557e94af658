"""Blocks for the usual layers, with the parameter counts of torch.nn; `elman.plots.modules` reads them from modules.

Weights are named as in the equations: E embedding, U from the input, W from the previous state, V to the output; layer
numbers below (`U_2`), a prime for the backward direction (`U′_2`). On one picture a letter has one meaning: the sizes
are T, S, B, I, H, P and K, so the output layer's bias is `b_y` and an LSTM's projection is R.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from elman.plots.drawing import Block, Direction, Role, State, Weight

Merge = Literal["concat", "sum", "mean", "product"]
Shapes = Mapping[str, tuple[int, ...]]
DIRECTIONS: tuple[Direction, ...] = ("forward", "backward")
MERGES: dict[Merge, str] = {
    "concat": "[{0}_t ; {0}′_t]",
    "sum": "{0}_t + {0}′_t",
    "mean": "({0}_t + {0}′_t) / 2",
    "product": "{0}_t ⊙ {0}′_t",
}


@dataclass(frozen=True, slots=True)
class Cell:
    """A kind of recurrent layer: its states and equations.

    `sums_biases`: both biases only ever act as their sum, and one name stands for both.
    """

    name: str
    states: tuple[str, ...]
    sums_biases: bool
    equations: tuple[str, ...]
    stepwise: tuple[str, ...] = ()

    @property
    def long_equations(self) -> tuple[str, ...]:
        """The equations in smaller steps, for cells with more in them than the plain one."""
        return self.stepwise or self.equations


CELLS: dict[str, Cell] = {
    "rnn": Cell("Elman", ("s",), True, ("a_t = U x_t + W s_{t−1} + b", "s_t = {activation}(a_t)")),
    "lstm": Cell(
        "LSTM",
        ("h", "c"),
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
        ("h",),
        False,
        (
            "r, z = σ(U x_t + b + W h_{t−1} + d)",
            "n = tanh(U x_t + b + r ⊙ (W h_{t−1} + d))",
            "h_t = (1 − z) ⊙ n + z ⊙ h_{t−1}",
        ),
    ),
    "gru, reset before": Cell(
        "GRU",
        ("h",),
        True,
        (
            "r, z = σ(U x_t + W h_{t−1} + b)",
            "n = tanh(U x_t + W (r ⊙ h_{t−1}) + b)",
            "h_t = (1 − z) ⊙ n + z ⊙ h_{t−1}",
        ),
    ),
    "mgu": Cell(
        "MGU",
        ("h",),
        True,
        (
            "f = σ(U x_t + W h_{t−1} + b)",
            "n = tanh(U x_t + W (f ⊙ h_{t−1}) + b)",
            "h_t = (1 − f) ⊙ h_{t−1} + f ⊙ n",
        ),
    ),
}


def indexed(letter: str, *below: str) -> str:
    """A name with what stands below it: `U_{2,dec}`."""
    index = ",".join(part for part in below if part)
    return f"{letter}_{{{index}}}" if len(index) > 1 else f"{letter}_{index}" if index else letter


def embedding(count: int, size: int, *, letter: str = "I", mark: str = "", subwords: int = 0) -> Block:
    """A table E of `count` rows of `size` numbers; the input is the number of a row. subwords: rows of a table P, of
    which a token has some.
    """
    table = Weight(indexed("E", mark), (count, size), "embedding")
    shared = Weight(indexed("P", mark), (subwords, size), "embedding")
    weights = (table, shared) if subwords else (table,)
    equation = "row x_t of E" + (" + mean of its rows of P" if subwords else "")
    return Block("embedding", "embedding", count, size, letter, weights, equations=(equation,))


def dropout(size: int, probability: float, *, note: str = "") -> Block:
    """Numbers set to 0 with `probability` while training; `note` says how masks are drawn."""
    equation = f"in training, {100 * probability:.3g} % of the numbers become 0{'; ' + note if note else ''}"
    return Block(f"dropout {probability:.4g}", "dropout", size, size, equations=(equation,))


def layer_norm(size: int, *, mark: str = "") -> Block:
    """Layer normalization with gain and bias."""
    weights = (Weight(indexed("γ", mark), (size,), "scale"), Weight(indexed("β", mark), (size,), "bias"))
    equation = "y_t = γ ⊙ (x_t − mean) / std + β"
    return Block("layer norm", "norm", size, size, "", weights, equations=(equation,))


def dense(
    input_size: int,
    output_size: int,
    *,
    letter: str = "K",
    activation: str = "softmax",
    bias: bool = True,
    tied_to: str = "",
    mark: str = "",
) -> Block:
    """y_t = activation(V x_t + b_y); an empty activation leaves the sum as it is."""
    matrix = Weight(indexed("V", mark), (output_size, input_size), "output", tied_to=tied_to)
    weights = (matrix, Weight(indexed("b", "y", mark), (output_size,), "bias")) if bias else (matrix,)
    total = "V x_t + b_y" if bias else "V x_t"
    equation = f"y_t = {activation}({total})" if activation else f"y_t = {total}"
    name = f"dense, {activation}" if activation else "dense"
    return Block(name, "dense", input_size, output_size, letter, weights, equations=(equation,))


def stacked(layers: Sequence[Block], *, residual: bool, between: float, masks: str = "") -> tuple[Block, ...]:
    """Layers with the dropout between them, and residual connections around those that keep the width.

    masks: how the dropout draws its masks, for its card.
    """
    blocks: list[Block] = []
    for place, block in enumerate(layers):
        dropped = bool(between and place)
        blocks += [dropout(block.input_size, between, note=masks)] if dropped else []
        added = residual and block.input_size == block.output_size
        # what is added has not gone through the dropout
        blocks.append(replace(block, residual=int(added) * (1 + dropped)))
    return tuple(blocks)


# Name in torch.nn and elman.nn: letter in the picture, what is below it, what it does.
PARAMETERS: dict[str, tuple[str, str, Role]] = {
    "weight_ih": ("U", "", "input"),
    "weight_hh": ("W", "", "recurrent"),
    "bias_ih": ("b", "", "bias"),
    "bias_hh": ("d", "", "bias"),
    "weight_hr": ("R", "", "output"),
    "weight_ho": ("V", "s", "output"),
    "bias_ho": ("b", "s", "bias"),
    "weight_ci": ("p", "i", "scale"),
    "weight_cf": ("p", "f", "scale"),
    "weight_co": ("p", "o", "scale"),
    "gain_ih": ("γ", "U", "scale"),
    "gain_hh": ("γ", "W", "scale"),
    "gain_sum": ("γ", "a", "scale"),
    "gain_cell": ("γ", "c", "scale"),
    "bias_cell": ("β", "c", "bias"),
    "initial_h": ("h", "0", "bias"),
    "initial_c": ("c", "0", "bias"),
}


@dataclass(frozen=True, slots=True)
class Layer:
    """One recurrent layer of a stack; `number` counts from 1 and is empty where there is only one.

    remarks: what no equation says, such as "zoneout 0.1". mark: stands below the names of all weights.
    """

    cell: Cell
    input_size: int
    hidden_size: int
    projection: int
    number: str
    activation: str
    remarks: tuple[str, ...] = ()
    mark: str = ""

    def block(self, letter: str, merge: Merge, shapes: Mapping[Direction, Shapes]) -> Block:
        """The layer as a block: `shapes` are the parameters of each direction by torch's names without their ends."""
        directions = tuple(shapes)
        joined = f"y_t = {MERGES[merge].format(self.cell.states[0])}" if len(directions) > 1 else ""
        doubled = len(directions) > 1 and merge == "concat"
        equations = (*self.equations(shapes[directions[0]]), joined)
        return Block(
            f"{self.cell.name}{' layer ' + self.number if self.number else ''}",
            "recurrent",
            self.input_size,
            (self.projection or self.hidden_size) * (1 + doubled),
            ("2" if doubled else "") + letter,
            tuple(
                weight for direction in directions for weight in self.weights(direction, shapes[direction])
            ),
            tuple(state for direction in directions for state in self.states(direction)),
            tuple(line for line in equations if line),
            remarks=self.remarks,
        )

    def label(self, name: str, direction: Direction, shapes: Shapes) -> str:
        """The name in the picture of a parameter; two biases that only ever act as their sum have the same."""
        summed = self.cell.sums_biases and name == "bias_hh" and "bias_ih" in shapes
        letter, below, _ = PARAMETERS.get("bias_ih" if summed else name, (spoken(name), "", "scale"))
        letter = self.cell.states[0] if name == "initial_h" else letter
        return indexed(letter + ("′" if direction == "backward" else ""), below, self.number, self.mark)

    def weights(self, direction: Direction, shapes: Shapes) -> list[Weight]:
        """The weights of a direction."""
        found: dict[str, Weight] = {}
        for name, shape in shapes.items():
            label = self.label(name, direction, shapes)
            role = PARAMETERS.get(name, ("", "", "scale"))[2]
            copies = 1 + (found[label].copies if label in found else 0)
            found[label] = Weight(label, shape, role, copies, direction=direction)
        return list(found.values())

    def states(self, direction: Direction) -> list[State]:
        """What a direction carries."""
        prime = "′" if direction == "backward" else ""
        return [
            State(name + prime, (self.projection if name == "h" else 0) or self.hidden_size, direction)
            for name in self.cell.states
        ]

    def equations(self, shapes: Shapes) -> list[str]:
        """The cell's equations with what the parameters tell: biases, layer norm, peepholes, coupled gates."""
        h = f"W {self.cell.states[0]}_{{t−1}}"
        norm = {"U x_t": "LN(U x_t)", h: f"LN({h})"} if "gain_ih" in shapes else {}
        norm |= {f"U x_t + {h}": f"LN(U x_t + {h})"} if "gain_sum" in shapes else {}
        changes = {"{activation}": self.activation} | norm
        changes |= {} if "bias_ih" in shapes else {" + b": "", " + d": ""}
        changes |= {"σ(a)": "σ(a + p ⊙ c)"} if "weight_ci" in shapes else {}
        changes |= {"h_t = o ⊙ tanh(c_t)": "h_t = R (o ⊙ tanh(c_t))"} if self.projection else {}
        changes |= {"tanh(c_t)": "tanh(LN(c_t))"} if "gain_cell" in shapes else {}
        if self.cell.name == "LSTM" and shapes.get("weight_hh", (0,))[0] == 3 * self.hidden_size:
            changes |= {"i, f, o": "i, o", "c_t = f ⊙": "c_t = (1 − i) ⊙"}
        long = {"gain_ih", "gain_sum", "weight_ci"} & shapes.keys()
        lines = list(self.cell.long_equations if long else self.cell.equations)
        for old, new in changes.items():
            lines = [line.replace(old, new) for line in lines]
        return lines


def spoken(name: str) -> str:
    """A name of code as words: an underscore would lower what follows."""
    return name.replace("_", " ").replace("^", " ")
