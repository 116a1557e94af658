"""Recurrent layers, cells and whole networks as torch modules."""

from elman.nn.activations import ACTIVATIONS
from elman.nn.attention import (
    AdditiveAttention,
    Attended,
    ConcatAttention,
    CoverageAttention,
    DotAttention,
    GeneralAttention,
    LocationAttention,
    Memory,
    MonotonicAttention,
    MultiHeadAttention,
    SummedAttention,
)
from elman.nn.attention_cell import AttentionCell
from elman.nn.cells import (
    Cell,
    CoupledLSTMCell,
    ElmanCell,
    GRUCell,
    GRUDCell,
    LayerNormGRUCell,
    LayerNormLSTMCell,
    LSTMCell,
    MinimalGatedCell,
    Observed,
    OriginalGRUCell,
    PeepholeLSTMCell,
    ProjectedLSTMCell,
)
from elman.nn.chain import ChainCell, LinearChain
from elman.nn.dropout import SequenceDropout, WordDropout
from elman.nn.embedding import Embedding, Features, SequenceInput
from elman.nn.freezing import Frozen
from elman.nn.gru import GRU
from elman.nn.linear_cross_entropy import (
    HeadLoss,
    LinearCrossEntropy,
    head_cross_entropy,
    linear_cross_entropy,
)
from elman.nn.losses import smoothed_cross_entropy
from elman.nn.lstm import LSTM
from elman.nn.nade import NADE
from elman.nn.networks import (
    CELLS,
    AttentionEncoderDecoder,
    Bridge,
    Captioner,
    DecoderState,
    EncoderDecoder,
    Forecaster,
    ForecasterState,
    Forecasts,
    LaggedMap,
    LanguageModel,
    NetworkOutput,
    PictureGrid,
    Sampling,
    SequenceClassifier,
    SequenceGenerator,
    Tagger,
    TaggerStream,
    Transcribed,
    Transcriber,
    cell_factory,
    recurrent_stack,
)
from elman.nn.norms import MaskedBatchNorm
from elman.nn.outlooks import LEVELS, OUTLOOKS, Outlook, Prospect
from elman.nn.pictures import FrameEncoder, PictureEncoder
from elman.nn.pooling import POOLINGS, AttentionPooling, Pooling, RunningPooling
from elman.nn.pretrained import LiteEncoder, lite_weights
from elman.nn.recurrent import Recurrent
from elman.nn.rnn import RNN
from elman.nn.spelling import Affixes, SpelledWords, Speller
from elman.nn.stack import Output, OutputWithStates
from elman.nn.streaming import Stream

__all__ = [
    "ACTIVATIONS",
    "CELLS",
    "GRU",
    "LEVELS",
    "LSTM",
    "NADE",
    "OUTLOOKS",
    "POOLINGS",
    "RNN",
    "AdditiveAttention",
    "Affixes",
    "Attended",
    "AttentionCell",
    "AttentionEncoderDecoder",
    "AttentionPooling",
    "Bridge",
    "Captioner",
    "Cell",
    "ChainCell",
    "ConcatAttention",
    "CoupledLSTMCell",
    "CoverageAttention",
    "DecoderState",
    "DotAttention",
    "ElmanCell",
    "Embedding",
    "EncoderDecoder",
    "Features",
    "Forecaster",
    "ForecasterState",
    "Forecasts",
    "FrameEncoder",
    "Frozen",
    "GRUCell",
    "GRUDCell",
    "GeneralAttention",
    "HeadLoss",
    "LSTMCell",
    "LaggedMap",
    "LanguageModel",
    "LayerNormGRUCell",
    "LayerNormLSTMCell",
    "LinearChain",
    "LinearCrossEntropy",
    "LiteEncoder",
    "LocationAttention",
    "MaskedBatchNorm",
    "Memory",
    "MinimalGatedCell",
    "MonotonicAttention",
    "MultiHeadAttention",
    "NetworkOutput",
    "Observed",
    "OriginalGRUCell",
    "Outlook",
    "Output",
    "OutputWithStates",
    "PeepholeLSTMCell",
    "PictureEncoder",
    "PictureGrid",
    "Pooling",
    "ProjectedLSTMCell",
    "Prospect",
    "Recurrent",
    "RunningPooling",
    "Sampling",
    "SequenceClassifier",
    "SequenceDropout",
    "SequenceGenerator",
    "SequenceInput",
    "SpelledWords",
    "Speller",
    "Stream",
    "SummedAttention",
    "Tagger",
    "TaggerStream",
    "Transcribed",
    "Transcriber",
    "WordDropout",
    "cell_factory",
    "head_cross_entropy",
    "linear_cross_entropy",
    "lite_weights",
    "recurrent_stack",
    "smoothed_cross_entropy",
]
