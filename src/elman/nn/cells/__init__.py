"""Recurrent cells: one step each, equations in the docstring, to be unfolded by `elman.nn.Recurrent`."""

from elman.nn.cells.base import Cell
from elman.nn.cells.coupled_lstm import CoupledLSTMCell
from elman.nn.cells.elman import ElmanCell
from elman.nn.cells.gru import GRUCell
from elman.nn.cells.gru_d import GRUDCell, Observed
from elman.nn.cells.layer_norm_gru import LayerNormGRUCell
from elman.nn.cells.layer_norm_lstm import LayerNormLSTMCell
from elman.nn.cells.lstm import LSTMCell
from elman.nn.cells.minimal_gated import MinimalGatedCell
from elman.nn.cells.original_gru import OriginalGRUCell
from elman.nn.cells.peephole_lstm import PeepholeLSTMCell
from elman.nn.cells.projected_lstm import ProjectedLSTMCell

__all__ = [
    "Cell",
    "CoupledLSTMCell",
    "ElmanCell",
    "GRUCell",
    "GRUDCell",
    "LSTMCell",
    "LayerNormGRUCell",
    "LayerNormLSTMCell",
    "MinimalGatedCell",
    "Observed",
    "OriginalGRUCell",
    "PeepholeLSTMCell",
    "ProjectedLSTMCell",
]
