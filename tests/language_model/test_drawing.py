"""The drawing of a run is that of its model."""

from pathlib import Path

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from elman.config import UserError
from elman.data.vocabulary import Characters
from elman.tasks.base import find
from elman.tasks.language_model import Config, ModelSettings, TrainedLanguageModel, build_model
from elman.training.run import Run

SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        "cell": st.sampled_from(
            ["lstm", "gru", "rnn", "peephole-lstm", "coupled-lstm", "original-gru", "minimal-gated"]
        ),
        "projection": st.sampled_from([0, 4]),
        "nonlinearity": st.sampled_from(["tanh", "relu"]),
        "word_dropout": st.sampled_from([0.0, 0.1]),
        "weight_dropout": st.sampled_from([0.0, 0.1]),
        "input_norm": st.sampled_from(["none", "layer", "batch"]),
        "batch_norm": st.booleans(),
        "embedding": st.sampled_from([0, 5]),
        "layers": st.integers(1, 3),
        "dropout": st.sampled_from([0.0, 0.5]),
        "recurrent_dropout": st.sampled_from([0.0, 0.2]),
        "sequence_dropout": st.booleans(),
        "zoneout": st.sampled_from([0.0, 0.1]),
        "residual": st.booleans(),
        "layer_norm": st.sampled_from(["none", "separate", "sum"]),
        "norm": st.booleans(),
        "tied": st.booleans(),
        "engine": st.sampled_from(["elman", "torch"]),
    },
)


@settings(max_examples=150)
@given(SETTINGS)
def test_drawn_is_counted(given_settings: dict[str, object]) -> None:
    try:
        model_settings = ModelSettings(hidden=6, **given_settings)  # type: ignore[arg-type]
    except UserError:
        return
    tokenizer = Characters("abcdefg", marked=False)
    with torch.device("meta"):
        model = build_model(model_settings, tokenizer.size, unknown=0)
    task = find("language-model")
    trained = TrainedLanguageModel(
        task, Run(Path("run"), {}), Config(model=model_settings), tokenizer, model, {}
    )
    drawing = task.describe(trained, steps=4)
    assert drawing.parameters == sum(p.numel() for p in model.parameters())
    words = " ".join(" ".join((block.name, *block.equations, *block.remarks)) for block in drawing.blocks())
    assert ("zoneout" in words) == bool(model_settings.zoneout)
    assert ("LN(" in words) == (model_settings.layer_norm != "none")
    assert ("of h_{t−1}" in words or "of s_{t−1}" in words) == bool(model_settings.recurrent_dropout)
    masked = model_settings.recurrent_dropout or (model_settings.sequence_dropout and model_settings.dropout)
    assert ("one mask a sequence" in words) == bool(masked)
    dropped = sum(block.kind == "dropout" for block in drawing.blocks())
    assert dropped == (model_settings.layers + 1 if model_settings.dropout else 0)
    assert any(block.residual for block in drawing.blocks()) == model_settings.residual
