"""The settings that every task's training has in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from elman.config import Amount, Count, Flag, Positive, Seed, Share, UserError, Whole, option

__all__ = ["OptimizerSettings", "TrainingSettings"]


ADAPTIVE = ("adam", "adamw")


@dataclass(frozen=True)
class OptimizerSettings:
    """How a gradient becomes a step."""

    optimizer: Literal["sgd", "adam", "adamw"] = option("adamw", "rule that turns gradients into steps")
    rate: Positive = option(0.002, "learning rate at its highest", unit="RATE")
    momentum: Share = option(0.0, "momentum of sgd", unit="SHARE", needs={"optimizer": ("sgd",)})
    beta1: Share = option(
        0.9,
        "decay of the gradient's mean in adam and adamw, a step",
        unit="SHARE",
        needs={"optimizer": ADAPTIVE},
    )
    beta2: Share = option(
        0.999,
        "decay of the gradient's square in adam and adamw, a step",
        unit="SHARE",
        needs={"optimizer": ADAPTIVE},
    )
    weight_decay: Amount = option(
        0.0, "weight decay: decoupled in adamw, added to the gradient elsewhere", unit="RATE"
    )
    weight_average: Share = option(
        0.0,
        "decay, a step, of a moving average of the weights, which is validated and kept in their place (0: none; "
        "0.999 averages over about a thousand steps)",
        unit="SHARE",
    )
    clip: Amount = option(1.0, "longest gradient, as the norm over all parameters (0: no limit)", unit="NORM")
    loss: Literal["mean", "sum_over_time"] = option(
        "mean",
        "loss of a batch: its mean over tokens, or summed over the steps and averaged over the streams",
    )
    schedule: Literal["constant", "step", "after", "plateau", "cosine"] = option(
        "constant",
        "learning rate over time: 'step' divides it every --divide-every epochs, 'after' in each epoch after --divide-"
        "after, 'plateau' when validation does not improve, 'cosine' lets it fall smoothly to --final-rate",
    )
    warmup: Whole = option(
        0, "steps over which the learning rate rises from zero, in front of any schedule", unit="STEPS"
    )
    divide_by: Positive = option(
        2.0,
        "divisor of the learning rate in 'step', 'after' and 'plateau'",
        unit="NUMBER",
        needs={"schedule": ("step", "after", "plateau")},
    )
    divide_every: Count = option(
        1, "epochs between two divisions in 'step'", unit="EPOCHS", needs={"schedule": ("step",)}
    )
    divide_after: Whole = option(
        4, "last epoch at the full rate in 'after'", unit="EPOCHS", needs={"schedule": ("after",)}
    )
    patience: Whole = option(
        0,
        "validations without improvement that 'plateau' lets pass",
        unit="COUNT",
        needs={"schedule": ("plateau",)},
    )
    final_rate: Amount = option(
        0.0, "learning rate at the end of 'cosine'", unit="RATE", needs={"schedule": ("cosine",)}
    )

    def __post_init__(self) -> None:
        """Check what concerns two fields."""
        if self.divide_by <= 1 and self.schedule in {"step", "after", "plateau"}:
            raise UserError(
                f"--divide-by {self.divide_by:g} would not lower the learning rate: give a number above 1"
            )
        if self.momentum and self.optimizer != "sgd":
            raise UserError(f"--momentum works with --optimizer sgd only, not with {self.optimizer}")


@dataclass(frozen=True)
class TrainingSettings:
    """How long, from which start, on what, and how often to look and to save."""

    epochs: Count = option(10, "passes over the training data", unit="EPOCHS", late=True)
    max_steps: Whole = option(
        0, "end after so many steps in all (0: after all epochs)", unit="STEPS", late=True
    )
    minutes: Amount = option(
        0.0, "stop after so many minutes of training (0: no limit)", unit="MINUTES", late=True
    )
    seed: Seed = option(1, "start of all random numbers", unit="NUMBER")
    threads: Whole = option(0, "processor threads (0: torch's own choice)", unit="COUNT", late=True)
    device: str = option("cpu", "where to train: cpu, cuda, cuda:1, mps", unit="DEVICE", late=True)
    validate_every: Whole = option(
        0,
        "steps between validations, beside those at the ends of the epochs (0: only these)",
        unit="STEPS",
        late=True,
    )
    stop_after: Whole = option(
        0, "end after so many validations in a row without a better one (0: never)", unit="COUNT", late=True
    )
    checkpoint_every: Whole = option(
        0, "steps between checkpoints (0: by time only)", unit="STEPS", late=True
    )
    checkpoint_seconds: Amount = option(
        60.0, "seconds between checkpoints (0: by steps only)", unit="SECONDS", late=True
    )
    log_every: Count = option(50, "steps between two lines of the log", unit="STEPS", late=True)
    baselines: Flag = option(
        True,
        "measure simple rules beside the model, when the training is done; they are the same for any seed",
        late=True,
    )
    tensorboard: Flag = option(
        False, "write the log for TensorBoard too, into the folder tensorboard of the run", late=True
    )
