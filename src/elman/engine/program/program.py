"""What a step becomes: values, nodes, sections and the Program, with a grammar check and a text form.

A Program is a few lists of aten operations, sorted by when they run:

    static     once a call                             (weight norm, transposes of weights)
    context    once, for the B rows of the context
    hoisted    once, for all T·B rows                  (the input projection)
    loop       T times, what the next state needs
    trailing   once, for all T·B rows                  (the output layer)
    pre        backward, once, for all rows: what does not need the gradient of the next state
    loop_back  backward, T times, what the gradient of the state before needs
    post       backward, once, for all rows: gradients of inputs, sums over rows for the parameters
    final      backward, once a call: what is left to do on those sums

A size written `R` (or `2R`, ...) stands for the number of rows that a section is run on, times a factor.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from elman.engine.structure import TreeSpec

__all__ = [
    "DTYPES",
    "GRADIENTS",
    "INPUTS",
    "OUTPUTS",
    "PROGRAM_INPUTS",
    "READ",
    "SECTIONS",
    "Graph",
    "Node",
    "Program",
    "Rows",
    "Section",
    "Size",
    "Value",
    "parse",
    "refs",
]

SECTIONS = ("static", "context", "hoisted", "loop", "trailing", "pre", "loop_back", "post", "final")
# The roles of values, in the order of every text and list.
READ = ("x", "s", "c", "p")  # inputs of a step, its state, the context, what it reads beside these
GRADIENTS = ("dx", "ds", "dc", "dp")  # of those
INPUTS = (*READ, "gy", "gs")  # of a graph: what comes in as gradients of y and of the next state
OUTPUTS = ("y", "ns", *GRADIENTS)
PROGRAM_INPUTS = (*INPUTS, "ga")  # and as gradients of the states after each step
VERSION = 1

DTYPES: dict[str, torch.dtype] = {
    "f32": torch.float32, "f64": torch.float64, "f16": torch.float16, "bf16": torch.bfloat16, "i64": torch.int64,
    "i32": torch.int32, "i16": torch.int16, "i8": torch.int8, "u8": torch.uint8, "bool": torch.bool,
    "c64": torch.complex64, "c128": torch.complex128,
}  # fmt: skip
_SHORT = {v: k for k, v in DTYPES.items()}


@dataclass(frozen=True, slots=True)
class Rows:
    """The size `factor * R`, R being the number of rows at hand."""

    factor: int = 1

    def __str__(self) -> str:
        return "R" if self.factor == 1 else f"{self.factor}R"


Size = int | Rows


@dataclass(eq=False, slots=True)
class Value:
    """A tensor of the graph. `shape` has at most one `Rows` size: the batch axis of a row value."""

    name: str
    shape: tuple[Size, ...]
    dtype: torch.dtype
    summed: bool = False  # a sum over rows, adding up over the steps (gradients of parameters)

    @property
    def axis(self) -> int | None:
        """Where the rows lie; None for a value without rows."""
        return next((i for i, n in enumerate(self.shape) if isinstance(n, Rows)), None)

    @property
    def factor(self) -> int:
        axis = self.axis
        size = self.shape[axis] if axis is not None else 0
        return size.factor if isinstance(size, Rows) else 0

    def __str__(self) -> str:
        sizes = ",".join(str(n) for n in self.shape)
        return f"{self.name} {_SHORT[self.dtype]}[{sizes}]{'+' if self.summed else ''}"

    def __repr__(self) -> str:
        return self.name


@dataclass(eq=False, slots=True)
class Node:
    """`outs = op(*args, **kwargs)`; arguments are Values, numbers, None, dtypes, Rows and lists of them."""

    op: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outs: tuple[Value, ...]
    source: str = ""

    def __str__(self) -> str:
        words = [_word(a) for a in self.args] + [f"{k}={_word(v)}" for k, v in self.kwargs.items()]
        return f"{', '.join(map(str, self.outs))} = {self.op}({', '.join(words)})"


def refs(tree: Any) -> Iterator[Value]:
    """The Values in a node's arguments (or in any nest of lists, tuples and dicts)."""
    found: list[Value] = []
    _collect(tree, found)
    return iter(found)


def _collect(tree: Any, found: list[Value]) -> None:
    if isinstance(tree, Value):
        found.append(tree)
    elif isinstance(tree, Node):
        _collect(tree.args, found)
        if tree.kwargs:
            _collect(tree.kwargs, found)
    elif isinstance(tree, list | tuple):
        for item in tree:
            _collect(item, found)
    elif isinstance(tree, dict):
        for item in tree.values():
            _collect(item, found)


@dataclass(slots=True)
class Section:
    """Nodes in order, what they take from outside and what others take from them."""

    nodes: list[Node] = field(default_factory=list)
    ins: list[Value] = field(default_factory=list)
    outs: list[Value] = field(default_factory=list)


@dataclass(slots=True)
class Program:
    """A traced step, sorted; inputs and outputs by role, None where there is no gradient.

    x, s, c, p: inputs of the step, its state, its context, and the tensors it reads (parameters, buffers, closures).
    y, ns: outputs and next state. gy, gs: gradients that come in. dx, ds, dc, dp: gradients that go out.
    ga: gradients of the states after each step (all-step states), added to gs.
    """

    x: list[Value]
    s: list[Value]
    c: list[Value]
    p: list[Value]
    y: list[Value]
    ns: list[Value]
    gy: list[Value | None] = field(default_factory=list)
    gs: list[Value | None] = field(default_factory=list)
    ga: list[Value | None] = field(default_factory=list)
    dx: list[Value | None] = field(default_factory=list)
    ds: list[Value | None] = field(default_factory=list)
    dc: list[Value | None] = field(default_factory=list)
    dp: list[Value | None] = field(default_factory=list)
    sections: dict[str, Section] = field(default_factory=lambda: {name: Section() for name in SECTIONS})

    def __str__(self) -> str:
        lines = [f"elman program {VERSION}"]
        for role in PROGRAM_INPUTS:
            lines += [f"{role} {'none' if v is None else v}" for v in getattr(self, role)]
        for name, section in self.sections.items():
            if section.nodes or section.outs:
                lines.append(f"{name} ({_names(section.ins)}) -> ({_names(section.outs)})")
                lines += [f"  {node}" for node in section.nodes]
        lines += [f"{role} = ({_names(getattr(self, role))})" for role in OUTPUTS]
        return "\n".join(lines) + "\n"

    def verify(self) -> None:
        """Raise ValueError where a value is used before it is made, made twice, or has two batch axes."""
        made = {v.name for role in PROGRAM_INPUTS for v in getattr(self, role) if v is not None}
        for name, section in self.sections.items():
            known = {v.name for v in section.ins}
            if missing := known - made:
                raise ValueError(f"section {name} takes {sorted(missing)} before it is made")
            for node in section.nodes:
                _verify_node(name, node, known)
                known |= {v.name for v in node.outs}
            if missing := {v.name for v in section.outs} - known:
                raise ValueError(f"section {name} gives {sorted(missing)} but does not make it")
            made |= {v.name for v in section.outs}
            if name in ("loop", "loop_back"):  # what a loop hands to its next step need not leave it
                made |= {v.name for node in section.nodes for v in node.outs}
        for role in OUTPUTS:
            if missing := {v.name for v in getattr(self, role) if v is not None} - made:
                raise ValueError(f"{role} needs {sorted(missing)}, which no section gives")


@dataclass(slots=True)
class Graph:
    """A traced step: nodes in order and the values by role (None: no gradient there)."""

    nodes: list[Node] = field(default_factory=list)
    x: list[Value] = field(default_factory=list)
    s: list[Value] = field(default_factory=list)
    c: list[Value] = field(default_factory=list)
    p: list[Value] = field(default_factory=list)
    gy: list[Value | None] = field(default_factory=list)
    gs: list[Value | None] = field(default_factory=list)
    y: list[Value] = field(default_factory=list)
    ns: list[Value] = field(default_factory=list)
    dx: list[Value | None] = field(default_factory=list)
    ds: list[Value | None] = field(default_factory=list)
    dc: list[Value | None] = field(default_factory=list)
    dp: list[Value | None] = field(default_factory=list)
    externals: list[torch.Tensor] = field(default_factory=list)
    y_spec: TreeSpec | None = None
    unproved: list[Node] = field(default_factory=list)  # see `ops.check_rows`


def _verify_node(section: str, node: Node, known: set[str]) -> None:
    for value in refs(node):
        if value.name not in known:
            raise ValueError(f"section {section}: {node.op} uses {value.name} before it is made")
    for out in node.outs:
        if out.name in known:
            raise ValueError(f"section {section}: {out.name} is made twice")
        if sum(isinstance(n, Rows) for n in out.shape) > 1:
            raise ValueError(f"section {section}: {out} has two batch axes")


def _names(values: Iterable[Value | None]) -> str:
    return ", ".join("none" if v is None else v.name for v in values)


def _word(arg: Any) -> str:
    if isinstance(arg, Value):
        return arg.name
    if isinstance(arg, list | tuple):
        return "[" + ", ".join(_word(a) for a in arg) + "]"
    if isinstance(arg, torch.dtype):
        return f":{_SHORT[arg]}"
    if arg is None or isinstance(arg, bool):
        return str(arg).lower()
    if isinstance(arg, str):
        return f"'{arg}'"
    return repr(arg) if isinstance(arg, int | float) else str(arg)


# ---- reading the text form back

_TOKEN = re.compile(
    r"\s*(?:(?P<string>'[^']*')|(?P<dtype>:\w+)|(?P<punct>[\[\](),=])|(?P<atom>[^\s\[\](),=']+))"
)


def parse(text: str) -> Program:
    """The Program that printed `text`; ValueError with the line where it is not one."""
    lines = text.splitlines()
    if not lines or lines[0] != f"elman program {VERSION}":
        raise ValueError(f"not a program of version {VERSION}: {lines[0] if lines else 'empty text'!r}")
    reader = _Reader()
    for number, line in enumerate(lines[1:], start=2):
        try:
            reader.line(line)
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError(f"line {number} of the program cannot be read: {line!r} ({error})") from error
    reader.finish()
    program = Program(
        **reader.inputs, **{k: reader.outputs.get(k, []) for k in OUTPUTS}, sections=reader.sections
    )
    program.verify()
    return program


class _Reader:
    def __init__(self) -> None:
        self.values: dict[str, Value] = {}
        self.inputs: dict[str, Any] = {role: [] for role in PROGRAM_INPUTS}
        self.outputs: dict[str, Any] = {}
        self.sections = {name: Section() for name in SECTIONS}
        self.current = Section()
        self.promised: list[tuple[Section, str]] = []

    def line(self, line: str) -> None:
        word = line.split(" ", 1)[0]
        if line.startswith("  "):
            self.current.nodes.append(self._node(line))
        elif word in OUTPUTS and line.startswith(f"{word} = "):
            self.outputs[word] = self._list(line.split(" = ", 1)[1])
        elif word in PROGRAM_INPUTS:
            rest = line.split(" ", 1)[1]
            self.inputs[word].append(None if rest == "none" else self._declare(rest))
        else:
            self.current = self.sections[word]
            ins, outs = line[len(word) :].split(" -> ")
            self.current.ins = self._list(ins)
            self.promised.append((self.current, outs))

    def finish(self) -> None:
        """The outs of a section, named in its first line, are known once its nodes are read."""
        for section, outs in self.promised:
            section.outs = self._list(outs)

    def _list(self, text: str) -> list[Any]:
        names = [n for n in text.strip(" ()").split(", ") if n]
        return [None if n == "none" else self.values[n] for n in names]

    def _declare(self, text: str) -> Value:
        name, kind = text.strip().split(" ")
        dtype, sizes = kind.rstrip("+").rstrip("]").split("[")
        shape = tuple(_size(s) for s in sizes.split(",") if s)
        value = Value(name, shape, DTYPES[dtype], summed=kind.endswith("+"))
        self.values.setdefault(name, value)
        return self.values[name]

    def _node(self, line: str) -> Node:
        left, right = line.strip().split(" = ", 1)
        outs = tuple(self._declare(part) for part in re.split(r", (?=\w+ \w+\[)", left))
        op, rest = right.split("(", 1)
        args, kwargs = self._arguments(rest[:-1])
        return Node(op, tuple(args), kwargs, outs)

    def _arguments(self, text: str) -> tuple[list[Any], dict[str, Any]]:
        tokens = [(m.lastgroup or "", m.group(m.lastgroup or 0)) for m in _TOKEN.finditer(text)]
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        i = 0
        while i < len(tokens):
            if tokens[i][1] == ",":
                i += 1
            elif i + 1 < len(tokens) and tokens[i + 1] == ("punct", "="):
                kwargs[tokens[i][1]], i = self._argument(tokens, i + 2)
            else:
                value, i = self._argument(tokens, i)
                args.append(value)
        return args, kwargs

    def _argument(self, tokens: list[tuple[str, str]], i: int) -> tuple[Any, int]:
        kind, word = tokens[i]
        if word == "[":
            items: list[Any] = []
            i += 1
            while tokens[i][1] != "]":
                if tokens[i][1] == ",":
                    i += 1
                    continue
                item, i = self._argument(tokens, i)
                items.append(item)
            return items, i + 1
        return self._atom(kind, word), i + 1

    def _atom(self, kind: str, word: str) -> Any:
        if kind == "string":
            return word[1:-1]
        if kind == "dtype":
            return DTYPES[word[1:]]
        if word in self.values:
            return self.values[word]
        fixed = {"none": None, "true": True, "false": False, "nan": float("nan"), "inf": float("inf")}
        if word in fixed or word == "-inf":
            return fixed.get(word, float("-inf"))
        return _number(word)


def _size(text: str) -> Size:
    number = _number(text)
    if not isinstance(number, int | Rows):
        raise ValueError(f"{text!r} is no size")
    return number


def _number(word: str) -> int | float | Rows:
    if match := re.fullmatch(r"(\d*)R", word):
        return Rows(int(match.group(1) or 1))
    return int(word) if re.fullmatch(r"-?\d+", word) else float(word)
