"""What a picture of a model shows: a description in plain numbers, without torch.

A model is one `Stack` of `Block`s, repeated over time, or two (an encoder and its decoder). Which of the five shapes of
a recurrent network it has follows from when a stack reads and writes:

    shape                steps  reads     writes
    one to one           1      every     every
    one to many          T      first     every
    many to one          T      every     last
    many to many         T      every     every
    encoder-decoder      S, T   two stacks; the first writes nothing, its final state starts the second

Names and equations are marked up as in `elman.plots.text`: `h_{t−1}`.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Role = Literal["embedding", "input", "recurrent", "output", "bias", "scale"]
Kind = Literal["embedding", "dropout", "recurrent", "norm", "dense", "attention", "other"]
Direction = Literal["forward", "backward"]
BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
INDEX_BYTES = 8


@dataclass(frozen=True, slots=True)
class Weight:
    """A parameter of a block.

    `role` says what it multiplies and gives its colour; `copies` counts parameters of one shape under one name (the two
    bias vectors of torch.nn); `tied_to` names the weight whose numbers it uses, and then it adds none of its own.
    """

    name: str
    shape: tuple[int, ...]
    role: Role
    copies: int = 1
    tied_to: str = ""
    direction: Direction = "forward"

    @property
    def count(self) -> int:
        """Numbers that this weight adds to the model."""
        return 0 if self.tied_to else self.copies * math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class State:
    """What one recurrent layer hands from step to step in one direction: `size` numbers for each sequence."""

    name: str
    size: int
    direction: Direction = "forward"


@dataclass(frozen=True, slots=True)
class Block:
    """One layer: numbers of `input_size` in, `output_size` out at each step.

    `letter` is the letter of the output size ("H_1", "K"; empty: unchanged). `residual` counts the blocks that a
    residual connection goes around before it is added to this block's output: 1 this one, 2 also that below, 0 none.
    `gathers`: it makes one vector of what all steps below it give. `looks`: at each step it reads what the steps of the
    first stack have given (attention). `remarks` are what no equation says, such as
    "zoneout 0.1".
    """

    name: str
    kind: Kind
    input_size: int
    output_size: int
    letter: str = ""
    weights: tuple[Weight, ...] = ()
    states: tuple[State, ...] = ()
    equations: tuple[str, ...] = ()
    residual: int = 0
    gathers: bool = False
    looks: bool = False
    remarks: tuple[str, ...] = ()

    @property
    def parameters(self) -> int:
        """Numbers that training changes in this block."""
        return sum(weight.count for weight in self.weights)

    @property
    def state_numbers(self) -> int:
        """Numbers carried from step to step for one sequence."""
        return sum(state.size for state in self.states)

    @property
    def directions(self) -> tuple[Direction, ...]:
        """The directions in which the block runs over time; empty where it carries no state."""
        return tuple(dict.fromkeys(state.direction for state in self.states))

    def weight(self, *roles: Role, direction: Direction = "forward") -> Weight | None:
        """The first weight of one of these roles."""
        return next((w for w in self.weights if w.role in roles and w.direction == direction), None)

    def state_names(self, direction: Direction = "forward") -> tuple[str, ...]:
        """The names of the states of one direction."""
        return tuple(state.name for state in self.states if state.direction == direction)


@dataclass(frozen=True, slots=True)
class Signal:
    """What enters or leaves a stack at step t, such as "x_t".

    `size` is None for an index (the number of a word), else so many numbers; `letter` is the letter of that size.
    """

    name: str
    meaning: str
    size: int | None = None
    letter: str = ""

    def at(self, index: str) -> str:
        """Its name at another step."""
        return self.name.replace("_t", f"_{{{index}}}")


@dataclass(frozen=True, slots=True)
class Stack:
    """Blocks from the input upwards, repeated over `steps` steps; `time` is the letter of that number."""

    name: str
    blocks: tuple[Block, ...]
    input: Signal
    output: Signal
    steps: int
    time: str = "T"
    reads: Literal["every", "first"] = "every"
    writes: Literal["every", "last", "none"] = "every"

    def __post_init__(self) -> None:
        """Refuse a stack that does not fit together.

        Raises:
            ValueError: a block's input is not the size of what comes before it, or a residual changes size.
        """
        if not self.blocks or self.steps < 1:
            raise ValueError(
                f"{self.name}: {len(self.blocks)} blocks over {self.steps} steps; needs at least one of each"
            )
        for before, block in zip(self.blocks, self.blocks[1:], strict=False):
            if before.output_size != block.input_size:
                raise ValueError(
                    f"{block.name} takes {block.input_size} numbers, but {before.name} before it gives "
                    f"{before.output_size}"
                )
        for place, block in enumerate(self.blocks):
            size = self.blocks[place - block.residual + 1].input_size if block.residual else block.output_size
            if size != block.output_size:
                raise ValueError(
                    f"{block.name}: a residual connection adds input to output, but {size} numbers go in "
                    f"and {block.output_size} come out"
                )

    def forks(self, place: int) -> bool:
        """Whether a residual connection begins below block `place`."""
        return any(
            block.residual and here - block.residual + 1 == place for here, block in enumerate(self.blocks)
        )

    @property
    def core(self) -> tuple[int, int]:
        """The positions of the first and the last recurrent block."""
        found = [place for place, block in enumerate(self.blocks) if block.states]
        return (found[0], found[-1]) if found else (0, len(self.blocks) - 1)

    @property
    def narrows(self) -> int:
        """The position of the first block whose output exists at the last step only, where `writes` says so."""
        gathering = (place for place, block in enumerate(self.blocks) if block.gathers)
        return next(gathering, self.core[1])


@dataclass(frozen=True, slots=True)
class ModelDrawing:
    """A model to be drawn: `batch` sequences side by side, numbers of type `dtype`."""

    title: str
    stacks: tuple[Stack, ...]
    batch: int
    dtype: str = "float32"

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn.

        Raises:
            ValueError: no stack or more than two, an unknown dtype, or a weight tied to one that does not exist.
        """
        if len(self.stacks) not in (1, 2):
            raise ValueError(
                f"a model has one stack, or an encoder and a decoder; got {len(self.stacks)} stacks"
            )
        if self.dtype not in BYTES:
            raise ValueError(f"dtype {self.dtype!r} is not one of {', '.join(BYTES)}")
        names = {weight.name for weight in self.weights()}
        for weight in self.weights():
            if weight.tied_to and weight.tied_to not in names:
                raise ValueError(
                    f"{weight.name} is tied to {weight.tied_to}, which is no weight of this model"
                )

    def blocks(self) -> Iterator[Block]:
        """All blocks, from the input upwards."""
        return (block for stack in self.stacks for block in stack.blocks)

    def weights(self) -> Iterator[Weight]:
        """All weights, in the order of the blocks."""
        return (weight for block in self.blocks() for weight in block.weights)

    @property
    def parameters(self) -> int:
        """Numbers that training changes."""
        return sum(block.parameters for block in self.blocks())

    @property
    def state_numbers(self) -> int:
        """Numbers carried from step to step for one sequence."""
        return sum(block.state_numbers for block in self.blocks())

    @property
    def timed(self) -> tuple[Stack, ...]:
        """The stacks that run over several steps; all, where none does."""
        return tuple(stack for stack in self.stacks if stack.steps > 1) or self.stacks

    @property
    def number_bytes(self) -> int:
        """Bytes of one number."""
        return BYTES[self.dtype]

    @property
    def shape(self) -> str:
        """Which of the five shapes of a recurrent network this is."""
        if len(self.stacks) == 2:
            return "one to many" if self.stacks[0].steps == 1 else "encoder-decoder"
        stack = self.stacks[0]
        if stack.steps == 1:
            return "one to one"
        if stack.reads == "first":
            return "one to many"
        return "many to one" if stack.writes == "last" else "many to many"
