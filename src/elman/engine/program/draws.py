"""Operations that draw random numbers: from which distribution, and what each takes."""

from __future__ import annotations

__all__ = ["BY_CHANCES", "BY_SHAPE", "BY_SIZES", "DISTRIBUTIONS"]

# By the name without an overload or a last line. Where no distribution stands, the op table has no such operation.
DISTRIBUTIONS: dict[str, str] = {
    "rand": "uniform", "rand_like": "uniform", "uniform": "uniform",
    "randn": "normal", "randn_like": "normal", "normal": "normal", "normal_functional": "normal",
    "bernoulli": "bernoulli", "exponential": "exponential",
    "randint": "", "randint_like": "", "native_dropout": "",
}  # fmt: skip
# Those of the op table: what says how much is drawn.
BY_SIZES = ("rand.default", "randn.default")
BY_SHAPE = (
    "rand_like.default", "randn_like.default", "bernoulli.p", "uniform.default", "normal_functional.default",
    "exponential.default",
)  # fmt: skip
BY_CHANCES = ("bernoulli.default",)
