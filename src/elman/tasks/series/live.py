"""A series as it comes: one row in, the state carried in the layers' own streams, one outlook out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from elman.data.series.rows import BadRowError, Row, as_cells, header_of, row_of
from elman.data.series.scaled import Codec
from elman.runtime.following import Following

if TYPE_CHECKING:
    from elman.nn import Forecaster

__all__ = ["BadRowError", "Live", "Row", "as_cells", "header_of", "row_of"]

Floats = npt.NDArray[np.float64]


class Live(Following):
    """The stream of one series. After `advance`, `loc` and `shape` hold the outlook of the last row."""

    def __init__(self, model: Forecaster, codec: Codec, name: str, static: Mapping[str, Any]) -> None:
        """Nothing has come."""
        model.eval()
        self.model = model
        super().__init__(codec, name, static, float(model.get_buffer("threshold")))

    def restart(self) -> None:
        """Streams anew."""
        import torch

        self.streams: list[Any] = []
        self.window = self.model.initial_state(1).window
        self.unit = torch.tensor(self.scale.deviation[: self.codec.targets], dtype=torch.float32).unsqueeze(0)

    def advance(self, x: Floats, since: Floats, known: Floats) -> None:
        """One step of `Forecaster.forward`, on the streams of its layers."""
        import torch

        with torch.no_grad():
            self._advance(*(torch.tensor(v, dtype=torch.float32).view(1, 1, -1) for v in (x, since, known)))

    def _advance(self, x: Any, since: Any, known: Any) -> None:
        """One step of `Forecaster.forward`, on the streams of its layers."""
        import torch

        from elman.nn.networks.forecaster import forward_filled

        model = self.model
        filled, before = forward_filled(x, self.window[:, -1])
        s = model.inputs(x, filled, before, since, known)[0]
        if not self.streams:
            self.streams = [_stream(layer) for layer in model.recurrent]
        for stream in self.streams:
            s = stream(s)
        past = torch.cat((self.window.movedim(1, 0), filled))
        ahead = torch.zeros(1, 1, model.ahead) if model.ahead else None
        self.loc, self.shape = model.read_out(s.unsqueeze(0), past, ahead)
        self.window = past[1:].movedim(0, 1)

    def quantiles(self) -> Floats:
        """Of the rows ahead, scaled `(h, M, Q)`; the network forecasts all at once."""
        import torch

        with torch.no_grad():
            found = self.model.outlook.quantiles(self.model.prospect(self.loc, self.shape, self.unit))
        flat = found[0, 0].double().numpy()
        return np.asarray(flat.reshape(-1, self.codec.targets, flat.shape[-1]))

    @property
    def state(self) -> Any:
        """The state and the outlook, as `paths.sample_paths` goes on from them."""
        from elman.nn import ForecasterState, Forecasts

        state = ForecasterState(self.window, tuple(stream.state for stream in self.streams))
        return state, Forecasts(self.loc, self.shape, state)


def _stream(layer: Any) -> Any:
    return layer.stream() if hasattr(layer, "stream") else _Stepped(layer)


class _Stepped:
    """A layer of torch.nn one step at a time."""

    def __init__(self, layer: Any) -> None:
        self.layer, self.state = layer, None

    def __call__(self, x: Any) -> Any:
        y, self.state = self.layer(x.unsqueeze(0), self.state)
        return y[0]
