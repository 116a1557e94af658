"""What draws random numbers is said in one table, and torch agrees with it."""

import torch

from elman.engine.program.draws import BY_CHANCES, BY_SHAPE, BY_SIZES, DISTRIBUTIONS
from elman.engine.program.ops import OPS

aten = torch.ops.aten


def overload(name: str) -> torch._ops.OpOverload | None:
    packet, _, kind = name.partition(".")
    return getattr(getattr(aten, packet, None), kind, None) if packet != "elman" else None


def test_the_op_table_marks_what_torch_marks() -> None:
    marked = {
        name for name in OPS
        if (op := overload(name)) is not None and torch.Tag.nondeterministic_seeded in op.tags
    }  # fmt: skip
    assert {name for name, op in OPS.items() if op.random} == marked
    assert {name for name, op in OPS.items() if op.random} == {*BY_SIZES, *BY_SHAPE, *BY_CHANCES}


def test_each_has_a_distribution() -> None:
    for name in (*BY_SIZES, *BY_SHAPE, *BY_CHANCES):
        assert DISTRIBUTIONS[name.partition(".")[0]], name


def test_each_takes_what_its_list_says() -> None:
    """Sizes; or a tensor whose numbers do not matter; or chances, whose numbers do."""
    for name in BY_SIZES:
        assert overload(name)([4, 3]).shape == (4, 3)
    for name in (*BY_SHAPE, *BY_CHANCES):
        op = overload(name)
        drawn = []
        for filled in (0.0, 1.0):
            torch.manual_seed(1)
            given = torch.full((4, 3), filled)
            more = [0.5] if name == "bernoulli.p" else []
            drawn.append(op(given, *more))
        assert torch.equal(*drawn) == (name in BY_SHAPE), name
