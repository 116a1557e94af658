"""Models to be drawn: every shape of a network, every kind of block."""

from elman.plots import Block, ModelDrawing, Signal, Stack, State, Weight, blocks

WORD = Signal("x_t", "number of the word")
FRAME = Signal("x_t", "features of a frame", 40, "I")


def chances(count: int, letter: str = "V") -> Signal:
    return Signal("y_t", "chances of each", count, letter)


def language_model(
    kind: str = "lstm", *, tied: bool = False, steps: int = 35, layers: int = 2, words: int = 10_000
) -> ModelDrawing:
    parts = (
        blocks.embedding(words, 200),
        blocks.dropout(200, 0.5),
        *blocks.recurrent_blocks(kind, 200, [200] * layers, between=0.5),
        blocks.layer_norm(200),
        blocks.dense(200, words, tied_to="E" if tied else ""),
    )
    return ModelDrawing("model", (Stack("model", parts, WORD, chances(words), steps),), 20)


def residual_stack(*, bidirectional: bool = False, steps: int = 60, between: float = 0.0) -> ModelDrawing:
    widths = [20, 20, 20] if bidirectional else [40, 40, 64]
    recurrent = blocks.recurrent_blocks(
        "lstm", 40, widths, residual=True, bidirectional=bidirectional, between=between
    )
    parts = (*recurrent, blocks.dense(recurrent[-1].output_size, 7, letter="K"))
    return ModelDrawing("residual stack", (Stack("stack", parts, FRAME, chances(7, "K"), steps),), 8)


def tagger(kind: str, merge: blocks.Merge, *, steps: int = 100) -> ModelDrawing:
    recurrent = blocks.recurrent_blocks(kind, 40, [128], bidirectional=True, merge=merge)
    parts = (*recurrent, blocks.dense(recurrent[-1].output_size, 12, letter="K"))
    return ModelDrawing("tagger", (Stack("tagger", parts, FRAME, chances(12, "K"), steps),), 8)


def one_to_many() -> ModelDrawing:
    parts = (*blocks.recurrent_blocks("gru", 40, [64]), blocks.dense(64, 300))
    return ModelDrawing("caption", (Stack("net", parts, FRAME, chances(300), 9, reads="first"),), 16)


def many_to_one() -> ModelDrawing:
    recurrent = blocks.recurrent_blocks("lstm", 64, [32], bidirectional=True, merge="sum")
    parts = (blocks.embedding(500, 64), *recurrent, blocks.dense(32, 2, letter="K"))
    return ModelDrawing("sentiment", (Stack("net", parts, WORD, chances(2, "K"), 30, writes="last"),), 16)


def encoder_decoder() -> ModelDrawing:
    encoder = (blocks.embedding(8000, 256), *blocks.recurrent_blocks("gru", 256, [512, 512]))
    decoder = (
        blocks.embedding(6000, 256),
        blocks.dropout(256, 0.3),
        *blocks.recurrent_blocks("gru", 256, [512, 512]),
        blocks.dense(512, 6000),
    )
    nothing = Signal("s_t", "", 512, "H")
    stacks = (
        Stack("encoder", encoder, WORD, nothing, 14, "S", writes="none"),
        Stack("decoder", decoder, Signal("y_t", "the word before"), chances(6000), 12),
    )
    return ModelDrawing("translation", stacks, 64)


def without_state() -> ModelDrawing:
    parts = (blocks.dense(40, 30, letter="H", activation="tanh"), blocks.dense(30, 4, letter="K", bias=False))
    return ModelDrawing("no recurrence", (Stack("net", parts, FRAME, chances(4, "K"), 1),), 4)


def own_cell() -> ModelDrawing:
    sizes = {"h": 64, "c": 64, "n": 64, "m": 1}
    states = tuple(State(name, size) for name, size in sizes.items())
    weights = (
        Weight("U", (256, 40), "input"),
        Weight("W", (256, 64), "recurrent"),
        Weight("τ", (64,), "scale"),
    )
    equations = ("h_t = o ⊙ c_t / n_t",)
    cell = Block("exponential LSTM layer 1", "recurrent", 40, 64, "H", weights, states, equations)
    title = "runs/a-folder-with-a-very-long-name/" * 5
    return ModelDrawing(title, (Stack("net", (cell,), FRAME, Signal("h_t", "state", 64, "H"), 12),), 2)


def everything() -> ModelDrawing:
    """An LSTM with all that elman.nn.LSTM can have."""
    shapes: dict[str, tuple[int, ...]] = {}
    for end in ("_l0", "_l0_reverse", "_l1", "_l1_reverse"):
        shapes[f"weight_ih{end}"] = (128, 64 if "1" in end else 40)
        shapes[f"weight_hh{end}"] = (128, 32)
        shapes |= {f"{name}{end}": (128,) for name in ("bias_ih", "bias_hh", "gain_ih", "gain_hh")}
        rest = ("initial_h", "initial_c", "weight_ci", "weight_cf", "weight_co", "gain_cell", "bias_cell")
        shapes |= {f"{name}{end}": (32,) for name in rest}
    parts = blocks.recurrent_blocks(
        "lstm", 40, [32, 32], bidirectional=True, parameters=shapes, remarks=("zoneout 0.1 of h, 0.5 of c",)
    )
    return ModelDrawing("everything", (Stack("net", parts, FRAME, Signal("h_t", "state", 64, "H"), 12),), 2)


EXAMPLES = {
    "everything": everything(),
    "own cell": own_cell(),
    "huge": language_model(words=12_345_678),
    "elman": language_model("rnn", layers=1),
    "lstm": language_model(),
    "tied": language_model(tied=True, words=50_257),
    "minimal": language_model("mgu", steps=3),
    "six layers": language_model("gru", layers=6),
    "residual": residual_stack(),
    "both ways, residual": residual_stack(bidirectional=True),
    "both ways, residual, few steps": residual_stack(bidirectional=True, steps=4),
    "residual around dropout": residual_stack(between=0.1),
    "both ways, residual around dropout": residual_stack(bidirectional=True, between=0.1),
    "both ways, gru": tagger("gru", "concat"),
    "both ways, rnn": tagger("rnn", "mean", steps=5),
    "one to one": residual_stack(steps=1),
    "one to many": one_to_many(),
    "many to one": many_to_one(),
    "encoder-decoder": encoder_decoder(),
    "without state": without_state(),
}
