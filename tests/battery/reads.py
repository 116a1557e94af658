"""Drawn cells that read a number from somewhere, and change it between calls: none may be silently wrong.

A draw is a root (a global, a closure, an attribute, a default, a module, a context variable ...), a nest of containers
under it, a leaf at the bottom, and a list of changes. Each call is compared with the cell's own Python loop. A second
kind of draw writes somewhere at each step, and what it has written must be what the loop writes.

`python -m tests.battery.reads --draws 10000` runs many and prints the counts.
"""

from __future__ import annotations

import argparse
import array
import collections
import contextvars
import decimal
import fractions
import itertools
import random
import sys
import types
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

import elman
from elman.engine import EngineWarning

H, B, T = 3, 2, 3
_NUMBERS = itertools.count()
WHY: list[str] = []  # the last call's warnings


class Plain:
    """An object with attributes."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner


@dataclass
class Data:
    """A dataclass."""

    inner: Any


@dataclass(slots=True)
class Slotted:
    """A dataclass without a dictionary."""

    inner: Any


class Hidden:
    """An object that gives what it holds by a property."""

    def __init__(self, inner: Any) -> None:
        self._kept = inner

    @property
    def inner(self) -> Any:
        return self._kept


class Asked(dict):  # type: ignore[type-arg]
    """A dictionary whose entries are read as attributes."""

    __getattr__ = dict.__getitem__


class Named(NamedTuple):
    """A named tuple."""

    other: Any
    inner: Any


class Container(NamedTuple):
    """A kind of container: how it is made around a value, how it is read, how its content is replaced."""

    make: Callable[[Any], Any]
    read: str
    put: Callable[[Any, Any], None] | None


def _attribute(thing: Any, value: Any) -> None:
    thing.inner = value


def _class_of(value: Any) -> type:
    return type("Space", (), {"inner": value})


def _objects(value: Any) -> Any:
    out = np.empty(2, dtype=object)
    out[1] = value
    return out


CONTAINERS: dict[str, Container] = {
    "list": Container(lambda v: [0, v], "[1]", lambda c, v: c.__setitem__(1, v)),
    "long list": Container(lambda v: [0.5] * 700 + [v], "[700]", lambda c, v: c.__setitem__(700, v)),
    "tuple": Container(lambda v: (0, v), "[1]", None),
    "named tuple": Container(lambda v: Named(0, v), ".inner", None),
    "dict": Container(lambda v: {"a": 0, "k": v}, '["k"]', lambda c, v: c.update(k=v)),
    "long dict": Container(
        lambda v: {**dict.fromkeys(range(400)), "k": v}, '["k"]', lambda c, v: c.update(k=v)
    ),
    "dict by get": Container(lambda v: {"k": v}, '.get("k")', lambda c, v: c.update(k=v)),
    "dict by values": Container(
        lambda v: {"k": v}, ".values().__iter__().__next__()", lambda c, v: c.update(k=v)
    ),
    "ordered dict": Container(
        lambda v: collections.OrderedDict(a=1, k=v), '["k"]', lambda c, v: c.__setitem__("k", v)
    ),
    "default dict": Container(
        lambda v: collections.defaultdict(list, k=v), '["k"]', lambda c, v: c.__setitem__("k", v)
    ),
    "user dict": Container(lambda v: collections.UserDict(k=v), '["k"]', lambda c, v: c.__setitem__("k", v)),
    "user list": Container(lambda v: collections.UserList([v]), "[0]", lambda c, v: c.__setitem__(0, v)),
    "chain map": Container(
        lambda v: collections.ChainMap({}, {"k": v}), '["k"]', lambda c, v: c.maps[1].update(k=v)
    ),
    "attribute dict": Container(lambda v: Asked(inner=v), ".inner", lambda c, v: c.update(inner=v)),
    "deque": Container(lambda v: collections.deque([0, v]), "[1]", lambda c, v: c.__setitem__(1, v)),
    "simple namespace": Container(lambda v: types.SimpleNamespace(inner=v), ".inner", _attribute),
    "namespace": Container(lambda v: argparse.Namespace(inner=v), ".inner", _attribute),
    "object": Container(Plain, ".inner", _attribute),
    "dataclass": Container(Data, ".inner", _attribute),
    "slots": Container(Slotted, ".inner", _attribute),
    "class": Container(_class_of, ".inner", _attribute),
    "property": Container(Hidden, ".inner", lambda c, v: setattr(c, "_kept", v)),
    "proxy": Container(lambda v: types.MappingProxyType({"k": v}), '["k"]', None),
    "array of objects": Container(_objects, "[1]", lambda c, v: c.__setitem__(1, v)),
    "by vars": Container(Plain, ".__dict__['inner']", _attribute),
}


class Leaf(NamedTuple):
    """A kind of number: how it is made, how the cell takes it, how it is changed in place."""

    make: Callable[[float], Any]
    take: str
    put: Callable[[Any, float], Any] | None = None


def _first(thing: Any, value: float) -> None:
    thing[-1] = value


LEAVES: dict[str, Leaf] = {
    "float": Leaf(float, "{}"),
    "integer": Leaf(lambda v: round(v * 8), "{} / 8"),
    "boolean": Leaf(lambda v: v > 1, "(1.5 if {} else 0.5)"),
    "text": Leaf(str, "float({})"),
    "bytes": Leaf(lambda v: str(v).encode(), "float({})"),
    "complex": Leaf(complex, "abs({})"),
    "fraction": Leaf(fractions.Fraction, "float({})"),
    "decimal": Leaf(decimal.Decimal, "float({})"),
    "number of numpy": Leaf(np.float64, "float({})"),
    "none": Leaf(lambda v: None if v > 1 else v, "(1.25 if {0} is None else {0})"),
    "array": Leaf(lambda v: array.array("d", [0.0, v]), "{}[-1]", _first),
    "bytearray": Leaf(
        lambda v: bytearray([0, round(v * 8)]), "{}[-1] / 8", lambda t, v: _first(t, round(v * 8))
    ),  # type: ignore[func-returns-value]
    "numpy": Leaf(lambda v: np.array([0.0, v]), "float({}[-1])", _first),
    "large numpy": Leaf(lambda v: np.append(np.zeros(30000), v), "float({}[-1])", _first),
    "tensor": Leaf(lambda v: torch.tensor(v), "{}", lambda t, v: t.fill_(v)),
    "tensor by data": Leaf(lambda v: torch.tensor(v), "{}", lambda t, v: t.data.fill_(v)),
    "tensor with a gradient": Leaf(lambda v: torch.tensor(v, requires_grad=True), "{}"),
    "shape of a tensor": Leaf(lambda v: torch.zeros(round(v * 8)), "{}.shape[0] / 8"),
    "list of numbers": Leaf(lambda v: [0.0, v], "{}[-1]", _first),
}


class Root(NamedTuple):
    """Where the nest hangs. source: the cell's code, with TAKE for the number; put: (module, cell) and the value."""

    source: str
    read: str
    put: Callable[[Any, Any, Any], None]


_FORWARD = """
class Cell(Base):
    def forward(self, x, h):
        h = torch.tanh(self.u(h) * (TAKE) + x)
        return h, h
"""
_VARIABLE: contextvars.ContextVar[Any] = contextvars.ContextVar("_VARIABLE")


def _after(line: str) -> str:
    """The cell with another line before its first."""
    return _FORWARD.replace("        h =", f"        {line}\n        h =")


def _to_module(name: str) -> Callable[[Any, Any, Any], None]:
    return lambda module, cell, value: setattr(module, name, value)


def _to_cell(name: str) -> Callable[[Any, Any, Any], None]:
    return lambda module, cell, value: setattr(cell, name, value)


ROOTS: dict[str, Root] = {
    "global": Root(_FORWARD, "ROOT", _to_module("ROOT")),
    "function of a global": Root(f"def ask():\n    return ROOT\n{_FORWARD}", "ask()", _to_module("ROOT")),
    "default": Root(f"def ask(root=None):\n    return root\n{_FORWARD}", "ask()",
                    lambda module, cell, value: setattr(module.ask, "__defaults__", (value,))),
    "keyword default": Root(f"def ask(*, root=None):\n    return root\n{_FORWARD}", "ask()",
                            lambda module, cell, value: setattr(module.ask, "__kwdefaults__", {"root": value})),
    "attribute of a function": Root(f"def ask():\n    return ask.root\n{_FORWARD}", "ask()",
                                    lambda module, cell, value: setattr(module.ask, "root", value)),
    "module": Root(f"import drawn_settings\n{_FORWARD}", "drawn_settings.root",
                   lambda module, cell, value: setattr(module.drawn_settings, "root", value)),
    "import in the step": Root(_after("import drawn_settings as s"), "s.root",
                               lambda module, cell, value: setattr(sys.modules["drawn_settings"], "root", value)),
    "from in the step": Root(_after("from drawn_settings import root"), "root",
                             lambda module, cell, value: setattr(sys.modules["drawn_settings"], "root", value)),
    "class of settings": Root(f"class Config:\n    root = None\n{_FORWARD}", "Config.root",
                              lambda module, cell, value: setattr(module.Config, "root", value)),
    "own class": Root(_FORWARD, "type(self).root", lambda module, cell, value: setattr(type(cell), "root", value)),
    "inherited": Root("class Middle(Base):\n    root = 1\n" + _FORWARD.replace("(Base)", "(Middle)"), "self.root",
                      lambda module, cell, value: setattr(module.Middle, "root", value)),
    "attribute": Root(_FORWARD, "self.root", _to_cell("root")),
    "attribute by getattr": Root(_FORWARD, 'getattr(self, "root")', _to_cell("root")),
    "attribute by a computed name": Root(_FORWARD, 'getattr(self, "ro" + str("ot"))', _to_cell("root")),
    "attribute of a module inside": Root(_FORWARD, "self.inside.root",
                                         lambda module, cell, value: setattr(cell.inside, "root", value)),
    "closure": Root(
        "def make():\n    root = None\n    def ask():\n        return root\n"
        "    def put(value):\n        nonlocal root\n        root = value\n    return ask, put\n"
        f"ask, put = make()\n{_FORWARD}", "ask()",
        lambda module, cell, value: module.put(value)),
    "partial": Root(_FORWARD, "self.ask()", lambda module, cell, value: _partial(cell, value)),
    "bound method": Root(f"class Holder:\n    def get(self):\n        return self.root\n{_FORWARD}", "self.ask()",
                         lambda module, cell, value: _bound(module, cell, value)),
    "context variable": Root(_FORWARD, "VARIABLE.get()", lambda module, cell, value: module.VARIABLE.set(value)),
    "method replaced": Root(_FORWARD, "self.ask()",
                            lambda module, cell, value: setattr(type(cell), "ask", lambda self: value)),
    "code replaced": Root(f"def ask():\n    return ROOT\n{_FORWARD}", "ask()",
                          lambda module, cell, value: _code(module, value)),
}  # fmt: skip


def _partial(cell: Any, value: Any) -> None:
    if "ask" in cell.__dict__:
        cell.ask.keywords["root"] = value
    else:
        import functools

        cell.ask = functools.partial(_given, root=value)


def _given(root: Any) -> Any:
    return root


def _bound(module: Any, cell: Any, value: Any) -> None:
    if "ask" not in cell.__dict__:
        cell.holder = module.Holder()
        cell.ask = cell.holder.get
    cell.holder.root = value


def _code(module: Any, value: Any) -> None:
    """Another function's code, which reads another global."""
    name = f"ROOT_{next(_NUMBERS)}"
    setattr(module, name, value)
    space: dict[str, Any] = {}
    exec(f"def ask():\n    return {name}", space)
    module.ask.__code__ = space["ask"].__code__


class Base(nn.Module):
    """What all drawn cells have."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden_size, self.u, self.inside = H, nn.Linear(H, H), nn.Dropout(0.0)


def loop_of(cell: Callable[..., Any], x: Tensor) -> Tensor:
    """The cell by hand."""
    h, ys = torch.zeros(x.shape[1], H), []
    for x_t in x:
        y, h = cell(x_t, h)
        ys.append(y)
    return torch.stack(ys)


@dataclass
class Drawn:
    """One draw: the names of its parts and the seed of its changes."""

    root: str
    nest: list[str]
    leaf: str
    changes: list[str]
    seed: int

    def __str__(self) -> str:
        return f"{self.root} > {' > '.join(self.nest)} > {self.leaf}: {', '.join(self.changes)} (seed {self.seed})"


CHANGES = ("leaf", "in place", "level", "equal", "nothing", "unrelated", "back")


def draw(seed: int) -> Drawn:
    """The draw of a seed."""
    r = random.Random(seed)
    nest = [r.choice(list(CONTAINERS)) for _ in range(r.choice((0, 1, 1, 2, 2, 3)))]
    return Drawn(
        r.choice(list(ROOTS)), nest, r.choice(list(LEAVES)), r.choices(CHANGES, k=r.choice((2, 3, 4))), seed
    )


def _build(nest: list[str], leaf: Any) -> Any:
    for name in reversed(nest):
        leaf = CONTAINERS[name].make(leaf)
    return leaf


class _Live:
    """The objects of a draw, to be changed."""

    def __init__(self, drawn: Drawn) -> None:
        self.drawn, self.random = drawn, random.Random(drawn.seed + 1)
        root, leaf = ROOTS[drawn.root], LEAVES[drawn.leaf]
        read = root.read + "".join(CONTAINERS[n].read for n in drawn.nest)
        self.module = types.ModuleType(f"drawn_{next(_NUMBERS)}")
        settings = sys.modules.setdefault("drawn_settings", types.ModuleType("drawn_settings"))
        vars(self.module).update(torch=torch, Base=Base, VARIABLE=_VARIABLE, drawn_settings=settings)
        sys.modules[self.module.__name__] = self.module
        source = root.source.replace("TAKE", leaf.take.format(read))
        exec(compile(source, f"<{self.module.__name__}>", "exec"), vars(self.module))
        self.cell = self.module.Cell()
        self.values = [self.random.choice((0.5, 0.75, 1.25, 1.5))]
        self.chain: list[Any] = []  # the containers, from the outermost, then the leaf
        self._hang(0, self.values[-1])

    def close(self) -> None:
        """No trace in the process."""
        sys.modules.pop(self.module.__name__, None)

    def _hang(self, level: int, number: float) -> None:
        """New objects from a level of the nest on; level 0 is the root's."""
        nest, leaf = self.drawn.nest, LEAVES[self.drawn.leaf].make(number)
        while level > 0 and CONTAINERS[nest[level - 1]].put is None:
            level -= 1
        built = [_build(nest[k:], leaf) for k in range(len(nest), level - 1, -1)]
        parts, value = [], built[0]
        parts.append(value)
        for name in reversed(nest[level:]):
            value = CONTAINERS[name].make(value)
            parts.append(value)
        parts.reverse()
        if level == 0:
            ROOTS[self.drawn.root].put(self.module, self.cell, parts[0])
        else:
            put = CONTAINERS[nest[level - 1]].put
            assert put is not None
            put(self.chain[level - 1], parts[0])
        self.chain[level:] = parts

    def change(self, kind: str) -> None:
        """One change between two calls."""
        nest, leaf = self.drawn.nest, LEAVES[self.drawn.leaf]
        other = self.random.choice([v for v in (0.5, 0.75, 1.25, 1.5) if v != self.values[-1]])
        if kind == "nothing":
            return
        if kind == "unrelated":
            self.cell.unrelated = self.random.random()
            return
        if kind == "equal":
            self._hang(self.random.randint(0, len(nest)), self.values[-1])
            return
        if kind == "back":
            other = self.values[0]
        self.values.append(other)
        if kind == "in place" and leaf.put is not None:
            leaf.put(self.chain[-1], other)
        elif kind == "level":
            self._hang(self.random.randint(0, len(nest)), other)
        else:
            self._hang(len(nest), other)


def run(drawn: Drawn) -> tuple[str, bool]:
    """The paths of the calls, in words, and whether all were right."""
    torch.manual_seed(drawn.seed)
    live = _Live(drawn)
    try:
        layer = elman.Recurrent(live.cell)
        x = torch.randn(T, B, H)
        paths = set()
        for k, kind in enumerate(["nothing", *drawn.changes]):
            if k:
                live.change(kind)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                y = layer(x)[0]
            foreign = [w for w in caught if not issubclass(w.category, EngineWarning)]
            assert not foreign, f"{foreign[0].category.__name__}: {foreign[0].message}"
            if layer.path == "loop":
                assert caught or "loop" in paths, "the loop without a word"
                WHY[:] = [str(w.message) for w in caught] or WHY
            paths.add(str(layer.path))
            if not torch.allclose(y, loop_of(live.cell, x), atol=1e-5):
                return str(layer.path), False
        return "loop" if "loop" in paths else "native", True
    finally:
        live.close()


# ---- cells that write somewhere


_RECORDER = """class R:
    def __init__(self):
        self.seen = []
    def add(self, v):
        self.seen += [v]
r = R()"""
_TICK = """def make():
    n = 0
    def tick():
        nonlocal n
        n += 1
        return n
    return tick
f = make()"""
WRITES: dict[str, tuple[str, str, str]] = {  # set-up of the module; the line of the step; what is read back
    "global list": ("LOG = []", "LOG.append(tuple(h.shape))", "LOG"),
    "list in a dict": ("LOG = {'a': [1.0]}", "LOG['a'].append(h.detach().sum().neg())", "len(LOG['a'])"),
    "global number": ("N = 0", "global N; N += 1", "N"),
    "class counter": ("class C:\n    n = 0", "C.n += 1", "C.n"),
    "own class": ("", "type(self).n = getattr(type(self), 'n', 0) + 1", "Cell.n"),
    "object": ("class R:\n    n = 0\nr = R()", "r.n += 1", "r.n"),
    "recorder with a method": (
        _RECORDER,
        "r.add(h.shape[0])", "r.seen",
    ),
    "closure": (
        _TICK,
        "f()", "f() - 1",
    ),
    "deque": ("import collections\nd = collections.deque(maxlen=5)", "d.append(tuple(h.shape))", "list(d)"),
    "set": ("s = set()", "s.add(len(s))", "sorted(s)"),
    "counter of collections": ("import collections\nc = collections.Counter()", "c['step'] += 1", "dict(c)"),
    "default dict": ("import collections\nc = collections.defaultdict(int)", "c[tuple(h.shape)] += 1", "dict(c)"),
    "numpy": ("import numpy as np\na = np.zeros(2)", "a[1] += 1", "a.tolist()"),
    "array": ("import array\na = array.array('l', [0])", "a[0] += 1", "a.tolist()"),
    "bytearray": ("a = bytearray()", "a.append(1)", "bytes(a)"),
    "slots": ("from tests.battery.reads import Slotted\ns = Slotted(0)", "s.inner += 1", "s.inner"),
    "namespace": ("import types\ns = types.SimpleNamespace(n=0)", "s.n += 1", "s.n"),
    "function attribute": ("def f():\n    return None\nf.n = 0", "f.n += 1", "f.n"),
    "default": ("def f(log=[]):\n    log.append(1)\n    return len(log)", "f()", "f() - 1"),
    "context variable": (
        "import contextvars\nv = contextvars.ContextVar('v', default=0)", "v.set(v.get() + 1)", "v.get()",
    ),
    "generator of torch": (
        "g = torch.Generator().manual_seed(3)", "torch.rand(1, generator=g)", "g.get_state().sum().item()",
    ),
    "generator of numpy": (
        "import numpy as np\ng = np.random.default_rng(3)", "g.random()", "g.bit_generator.state['state']['state']",
    ),
    "generator of Python": ("import random\ng = random.Random(3)", "g.random()", "g.getstate()[1][:4]"),
    "Python's own chance": ("import random\nrandom.seed(3)", "random.random()", "random.getstate()[1][-1]"),
    "numpy's own chance": (
        "import numpy as np\nnp.random.seed(3)", "np.random.rand()", "int(np.random.get_state()[2])",
    ),
    "iterator": ("import itertools\ni = itertools.count()", "next(i)", "repr(i)"),
    "hook": (
        "LOG = []\ndef prepare(cell):\n    cell.u.register_forward_hook(lambda m, i, o: LOG.append(tuple(o.shape)))",
        "pass",
        "LOG",
    ),
    "hook on its input": (
        "LOG = []\ndef prepare(cell):\n    cell.u.register_forward_pre_hook(lambda m, i: LOG.append(len(i[0])))",
        "pass",
        "LOG",
    ),
    "attribute": ("def prepare(cell):\n    cell.n = 0\n    global C\n    C = cell", "self.n += 1", "C.n"),
    "attribute of a module inside": (
        "def prepare(cell):\n    cell.inside.log = []\n    global C\n    C = cell", "self.inside.log.append(1)",
        "C.inside.log",
    ),
}  # fmt: skip

_WRITER = """
import torch
from tests.battery.reads import Base
SETUP
class Cell(Base):
    def forward(self, x, h):
        h = torch.tanh(self.u(h) + x)
        WRITE
        return h, h
def read():
    return READ
"""


def _writer(name: str) -> tuple[types.ModuleType, Any]:
    setup, write, read = WRITES[name]
    module = types.ModuleType(f"drawn_{next(_NUMBERS)}")
    sys.modules[module.__name__] = module
    source = _WRITER.replace("SETUP", setup).replace("WRITE", write).replace("READ", read)
    exec(compile(source, f"<{module.__name__}>", "exec"), vars(module))
    cell = module.Cell()
    if hasattr(module, "prepare"):
        module.prepare(cell)
    return module, cell


def run_writer(name: str, seed: int) -> tuple[str, bool]:
    """The path of a cell that writes, and whether it has written what its loop writes, at each of some calls."""
    r = random.Random(seed)
    torch.manual_seed(seed)
    calls = [torch.randn(r.choice((1, 2, 5)), r.choice((1, 2)), H) for _ in range(r.choice((1, 2, 3)))]
    written = []
    path = ""
    for engine in (False, True):
        state = contextvars.copy_context()
        module, cell = state.run(_writer, name)
        try:
            step: Callable[[Tensor], Any] = (
                elman.Recurrent(cell) if engine else lambda x, cell=cell: loop_of(cell, x)
            )
            seen = []
            for x in calls:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", EngineWarning)
                    state.run(step, x)
                seen.append(repr(state.run(module.read)))
            written.append(seen)
            path = str(getattr(step, "path", ""))
        finally:
            sys.modules.pop(module.__name__, None)
    return path, written[0] == written[1]


def main() -> None:
    """Many draws; exit code 1 where one is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--draws", type=int, default=1000, help="how many cells that read (default 1000)")
    parser.add_argument("--writers", type=int, default=0, help="how many cells that write (default 0)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default 0)")
    parser.add_argument(
        "--verified",
        action="store_true",
        help="with the engine's own check of each trace, which may mask a fault",
    )
    given = parser.parse_args()
    if not given.verified:
        from elman.engine import scan

        scan.verify = scan.verify_size = lambda *_: None  # type: ignore[assignment]
    counts: collections.Counter[str] = collections.Counter()
    for seed in range(given.first, given.first + given.draws):
        drawn = draw(seed)
        path, right = run(drawn)
        counts[f"read, {path}" if right else "WRONG"] += 1
        if not right:
            print("wrong:", drawn, flush=True)
        elif path == "loop":
            counts[f"read, loop because {WHY[0].partition(': ')[2].partition(';')[0]}"] += 1
        if seed % 500 == 499:
            print(seed + 1 - given.first, dict(counts), flush=True)
    for seed in range(given.first, given.first + given.writers):
        name = random.Random(seed).choice(list(WRITES))
        path, right = run_writer(name, seed)
        counts[f"written, {path}" if right else "WRONG"] += 1
        if not right:
            print("wrong:", name, seed, flush=True)
    for what, n in sorted(counts.items()):
        print(f"{n:7} {what}")
    sys.exit(bool(counts["WRONG"]))


if __name__ == "__main__":
    main()
