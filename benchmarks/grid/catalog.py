"""The cells of the grid by name, in the order in which they are reported."""

from collections.abc import Callable
from functools import partial

from benchmarks.grid import custom
from benchmarks.grid.network import Network, Size
from benchmarks.grid.stock import ragged, stock

STOCK: dict[str, Callable[[Size], Network]] = {
    "RNN": partial(stock, "RNN"),
    "GRU": partial(stock, "GRU"),
    "LSTM": partial(stock, "LSTM"),
    "projected LSTM": partial(stock, "LSTM", projected=True),
    "bidirectional LSTM": partial(stock, "LSTM", bidirectional=True),
    "2-layer LSTM": partial(stock, "LSTM", num_layers=2),
    "ragged LSTM": ragged,
}
CUSTOM: dict[str, Callable[[Size], Network]] = {
    "layer-norm LSTM": custom.layer_norm,
    "recurrent-dropout LSTM": custom.recurrent_dropout,
    "zoneout LSTM": custom.zoneout,
    "peephole LSTM": custom.peephole,
    "LiGRU": custom.li_gru,
    "GRU-D": custom.gru_d,
    "hand-written LSTM": custom.separate_gates,
}
CELLS = STOCK | CUSTOM
