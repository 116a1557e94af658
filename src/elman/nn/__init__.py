"""Recurrent layers and cells as torch modules."""

from elman.nn.activations import ACTIVATIONS
from elman.nn.cells import (
    Cell,
    CoupledLSTMCell,
    ElmanCell,
    GRUCell,
    LayerNormGRUCell,
    LayerNormLSTMCell,
    LSTMCell,
    MinimalGatedCell,
    OriginalGRUCell,
    PeepholeLSTMCell,
    ProjectedLSTMCell,
)
from elman.nn.dropout import SequenceDropout
from elman.nn.gru import GRU
from elman.nn.lstm import LSTM
from elman.nn.recurrent import Recurrent
from elman.nn.rnn import RNN
from elman.nn.stack import Output, OutputWithStates
from elman.nn.streaming import Stream

__all__ = [
    "ACTIVATIONS",
    "GRU",
    "LSTM",
    "RNN",
    "Cell",
    "CoupledLSTMCell",
    "ElmanCell",
    "GRUCell",
    "LSTMCell",
    "LayerNormGRUCell",
    "LayerNormLSTMCell",
    "MinimalGatedCell",
    "OriginalGRUCell",
    "Output",
    "OutputWithStates",
    "PeepholeLSTMCell",
    "ProjectedLSTMCell",
    "Recurrent",
    "SequenceDropout",
    "Stream",
]
