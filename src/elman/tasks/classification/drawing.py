"""The classifier as it is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from elman.plots import Block, ModelDrawing

__all__ = ["drawing_of"]


def drawing_of(trained: Any, *, steps: int) -> ModelDrawing:
    """Embedding, recurrent layers, pooling and dense output, with the weights that the module has."""
    from elman.plots import ModelDrawing, Signal, Stack, blocks

    settings, model, codec = trained.config.model, trained.model, trained.codec
    K, V, width = len(codec.labels.names), codec.lexicon.size, settings.width
    parameters = {name: tuple(p.shape) for name, p in model.recurrent.named_parameters()}
    layers = blocks.recurrent_blocks(
        KINDS.get(settings.cell, settings.cell),
        width,
        [settings.hidden] * settings.layers,
        bidirectional=settings.bidirectional,
        merge=settings.merge,
        residual=settings.residual,
        projection=settings.projection,
        activation=settings.nonlinearity,
        between=settings.dropout if settings.layers > 1 else 0.0,
        parameters=parameters,
    )
    pooled = model.pooling.output_size
    drop = [blocks.dropout(width, settings.dropout)] if settings.dropout else []
    parts = [
        blocks.embedding(V, width),
        *_norm(settings.input_norm, width),
        *drop,
        *layers,
        _pooling(model, layers[-1].output_size),
        *_norm(settings.output_norm, pooled),
        *([blocks.dropout(pooled, settings.dropout)] if settings.dropout else []),
        *([blocks.dense(pooled, settings.dense, letter="D", activation="relu")] if settings.dense else []),
        blocks.dense(
            settings.dense or pooled,
            K,
            letter="K",
            activation="sigmoid" if codec.labels.several else "softmax",
        ),
    ]
    unit = codec.lexicon.unit.removesuffix("s")
    reads, writes = Signal("x_t", f"a {unit}"), Signal("y", "chances of the labels", K, "K")
    stack = Stack("classifier", tuple(parts), reads, writes, steps, writes="last")
    return ModelDrawing(trained.run.path.name, (stack,), trained.config.data.batch)


KINDS = {"peephole-lstm": "lstm", "coupled-lstm": "lstm", "original-gru": "gru", "minimal-gated": "mgu"}


def _norm(kind: str, size: int) -> list[Block]:
    from elman.plots import blocks

    return [] if kind == "none" else [blocks.layer_norm(size)]


def _pooling(model: Any, size: int) -> Block:
    from elman.plots import Block, Weight

    pool = model.pooling
    weights = []
    if "attention" in pool.kinds:
        project, query = pool.attention.project, pool.attention.query
        weights = [
            Weight("W_a", tuple(project.weight.shape), "input"),
            Weight("b_a", tuple(project.bias.shape), "bias"),
            Weight("v_a", tuple(query.weight.shape), "output"),
        ]
    words = " and ".join(pool.kinds)
    return Block(
        f"pooling: {words}",
        "dense",
        size,
        pool.output_size,
        "",
        tuple(weights),
        equations=(f"p = {words} of the steps of a text",),
    )
