"""Numbers, bytes and tensor shapes as they stand in the pictures."""

from collections.abc import Iterable, Sequence
from typing import Any

from elman.plots.drawing import ModelDrawing, Stack, Weight


def grouped(number: int) -> str:
    """1234567 as 1,234,567."""
    return f"{number:,}"


def in_bytes(count: int) -> str:
    """A number of bytes in B, kB, MB or GB (powers of 1000), three digits."""
    size, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while size >= 999.5 and len(units) > 1:
        size, units = size / 1000, units[1:]
    return f"{size:.3g} {units[0]}"


def times(sizes: Sequence[int]) -> str:
    """35 × 20 × 200."""
    return " × ".join(grouped(size) for size in sizes)


def weight_shape(weight: Weight) -> str:
    """800 × 200 for a matrix, 800 + 800 for two bias vectors."""
    return " + ".join([times(weight.shape)] * weight.copies)


def output_letters(stack: Stack) -> list[str]:
    """The letter of the size after each block, with the input's in front."""
    letters = [stack.input.letter]
    for block in stack.blocks:
        letters.append(block.letter or letters[-1])
    return letters


def step_shape(drawing: ModelDrawing, stack: Stack, place: int) -> tuple[list[str], list[int]]:
    """Letters and sizes of one step's tensor after block `place` (−1: the input)."""
    letters, sizes = ["B"], [drawing.batch]
    size = stack.input.size if place < 0 else stack.blocks[place].output_size
    if size is not None:
        letters.append(output_letters(stack)[place + 1])
        sizes.append(size)
    return letters, sizes


def has_time(stack: Stack, place: int) -> bool:
    """Whether the tensor after block `place` exists at every step, not only at the first or the last."""
    before = place < stack.core[0] and stack.reads == "first"
    return not before and not (place >= stack.narrows and stack.writes != "every")


def full_shape(drawing: ModelDrawing, stack: Stack, place: int) -> tuple[list[str], list[int]]:
    """Letters and sizes of the whole tensor after block `place`, time first."""
    letters, sizes = step_shape(drawing, stack, place)
    if has_time(stack, place) and stack in drawing.timed:
        return [stack.time, *letters], [stack.steps, *sizes]
    return letters, sizes


def letter_sizes(drawing: ModelDrawing) -> dict[str, int]:
    """What each letter of the shapes stands for in this model."""
    found = {stack.time: stack.steps for stack in drawing.timed} | {"B": drawing.batch}
    for stack in drawing.stacks:
        sizes = [(stack.input.letter, stack.input.size)]
        sizes += [(block.letter, block.output_size) for block in stack.blocks]
        for letter, size in sizes:
            if letter and size is not None and len(letter) > 1 and letter[0].isdigit():
                found.setdefault(letter[1:], size // int(letter[0]))
            elif letter and size is not None:
                found.setdefault(letter, size)
    return found


MEANINGS = {
    "T": "steps",
    "S": "steps of the source",
    "B": "sequences side by side",
    "I": "features",
    "H": "units",
    "P": "units after the projection",
    "K": "outputs",
    "F": "features inside",
}


def legend(drawing: ModelDrawing) -> list[tuple[str, str]]:
    """Each letter with its size and meaning."""
    found = []
    for letter, size in letter_sizes(drawing).items():
        meaning = MEANINGS.get(letter[0], "")
        meaning = (
            meaning.replace("steps", "step").replace("sequences side by side", "sequence")
            if size == 1
            else meaning
        )
        found.append((letter, f"= {grouped(size)} {meaning}".rstrip()))
    return found


def state_list(names: Sequence[str], time: str) -> str:
    """h_t, c_t."""
    return ", ".join(f"{name}_{{{time}}}" for name in names)


def numbers(values: Iterable[Any]) -> list[Any]:
    """Numbers in a list, of a tensor or an array too; of two axes, a list of lists."""
    detach = getattr(values, "detach", None)
    plain: Any = detach() if detach else values
    return plain.tolist() if hasattr(plain, "tolist") else list(plain)
