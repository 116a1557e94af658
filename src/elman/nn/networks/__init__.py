"""Whole networks: the shapes of a recurrent network, from tokens or features to logits."""

from elman.nn.networks.attention_decoder import AttentionEncoderDecoder, DecoderState, Sampling
from elman.nn.networks.bridge import Bridge
from elman.nn.networks.captioner import Captioner, PictureGrid
from elman.nn.networks.classifier import SequenceClassifier
from elman.nn.networks.encoder_decoder import EncoderDecoder
from elman.nn.networks.forecaster import Forecaster, ForecasterState, Forecasts, LaggedMap
from elman.nn.networks.generator import SequenceGenerator
from elman.nn.networks.language_model import LanguageModel
from elman.nn.networks.network import Network, NetworkOutput
from elman.nn.networks.stacks import CELLS, Engine, cell_factory, recurrent_stack
from elman.nn.networks.streamed import TaggerStream
from elman.nn.networks.tagger import Tagger
from elman.nn.networks.transcriber import Transcribed, Transcriber

__all__ = [
    "CELLS",
    "AttentionEncoderDecoder",
    "Bridge",
    "Captioner",
    "DecoderState",
    "EncoderDecoder",
    "Engine",
    "Forecaster",
    "ForecasterState",
    "Forecasts",
    "LaggedMap",
    "LanguageModel",
    "Network",
    "NetworkOutput",
    "PictureGrid",
    "Sampling",
    "SequenceClassifier",
    "SequenceGenerator",
    "Tagger",
    "TaggerStream",
    "Transcribed",
    "Transcriber",
    "cell_factory",
    "recurrent_stack",
]
