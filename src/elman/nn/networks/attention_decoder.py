"""Many to many with attention: an encoder, and a decoder that looks at all that was read at each of its steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from elman.nn.attention import Memory
from elman.nn.attention_cell import AttentionCell
from elman.nn.cell_state import default_state
from elman.nn.dropout import dropout_layer
from elman.nn.embedding import Embedding, SequenceInput
from elman.nn.layout import lay_out, without_padding
from elman.nn.networks.bridge import Bridge
from elman.nn.networks.network import NetworkOutput, check_tied
from elman.nn.networks.stacks import run_stack, stack_width
from elman.nn.recurrent import Recurrent

__all__ = ["AttentionEncoderDecoder", "DecoderState", "Sampling"]


class DecoderState(NamedTuple):
    """What a decoder hands from step to step, of R rows that write for n sentences.

    cell: the state of its cell, R rows. memory: what was read, n rows. owners `(R,)`: the sentence of each row, in
    ascending order. weights `(R, S)`: where the last step looked; zeros before the first.
    """

    cell: Any
    memory: Memory
    owners: Tensor
    weights: Tensor

    def pick(self, rows: Tensor) -> DecoderState:
        """The state of the rows `(N,)`, in that order; rows of one sentence share its memory."""
        owners, memory = self.owners[rows], self.memory
        kept, places = torch.unique(owners, return_inverse=True)
        if len(kept) < memory.keys.shape[0]:
            memory = Memory(*(None if part is None else part[kept] for part in memory))  # type: ignore[arg-type]
        cell = tree_map(lambda leaf: leaf[rows], self.cell)
        return DecoderState(cell, memory, places, self.weights[rows])


class Sampling(NamedTuple):
    """Scheduled sampling (Bengio et al. 2015): each token that is fed in is the network's own with probability `share`.

    drawn: its own is drawn from p, else it is the likeliest. No gradient passes through the choice, as in the paper.
    """

    share: float
    drawn: bool = False


class MeanBridge(Bridge):
    """The mean of a memory's steps as the start of a decoder: s_0 = tanh(W m̄ + b)."""

    def forward(self, memory: Tensor, lengths: Tensor, start: Any) -> Any:  # type: ignore[override]
        """memory `(S, B, M)`, zeros behind each row's length `(B,)`; start: see `Bridge`."""
        return super().forward(memory.sum(0) / lengths.clamp(min=1).unsqueeze(1), start)


class AttentionEncoderDecoder(nn.Module):
    r"""Many to many: a source of S steps is read, then a target of T steps is written with an eye on the source.

        m_1 .. m_S = encoder(source embedding)          each row by its own length, both directions if wanted
        s_0 = tanh(W m̄ + b)                             m̄: the mean of m_1 .. m_S
        y_t, s_t = cell(e_t, s_{t−1}, m)                e_t: the embedding of target token t; see `AttentionCell`
        r_t = dropout(tanh(W [y_t ; e_t] + b))          as wide as the embedding (Pascanu et al. 2014: deep output)
        p(next token) = softmax(V r_t + c)

    source, target: `elman.nn.Embedding`s (the source may be `Features`). encoder: any recurrent layers. cell: an
    `AttentionCell` over the target's embedding that reads `stack_width(encoder)` features. loop: run the decoder's cell
    step by step in Python, to compare. tied: V is the table of the
    target's embedding (Press & Wolf 2017). shared: one table for source and target, for one vocabulary of both.

    In training the right target is fed in, and the engine runs the cell over all of it (`decoder.explain()` says how).
    In use each token drawn is fed in: `beam_search(model.step, first, model.encode(source), pick=DecoderState.pick)`.
    """

    def __init__(
        self,
        source: nn.Module,
        encoder: nn.Module,
        target: Embedding,
        cell: AttentionCell,
        *,
        dropout: float = 0.0,
        tied: bool = True,
        shared: bool = False,
        bridge: bool = True,
        loop: bool = False,
    ) -> None:
        super().__init__()
        width = target.output_size
        self.source, self.encoder, self.target = source, encoder, target
        self.decoder = Recurrent(cell)
        self.loop = loop
        self.bridge = MeanBridge(stack_width(encoder), Recurrent(cell.cell)) if bridge else None
        self.readout = nn.Linear(cell.output_size + width, width)
        self.dropout = dropout_layer(dropout, sequence=False)
        self.head = nn.Linear(width, target.count)
        if shared:
            _share(source, target)
        if tied:
            check_tied(target, width, target.count)
            self.head.weight = target.weight
        nn.init.zeros_(self.head.bias)

    @property
    def cell(self) -> AttentionCell:
        """The decoder's step."""
        found: Any = self.decoder.cell
        return found  # type: ignore[no-any-return]

    def read(self, source: Tensor, lengths: Tensor | None = None) -> tuple[Memory, Any]:
        """The memory of a source `(S, B)` or `(S, B, F)`, and the state that the decoder starts from."""
        return self.remember(*self.hear(source, lengths))

    def hear(self, source: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """m `(S, B, M)`, zeros in the padding, and the lengths as they were checked."""
        lengths = lay_out(source, lengths=lengths, reset=None, batch_first=False).lengths
        own = isinstance(self.source, SequenceInput)
        e = self.source(source, lengths) if own else self.source(source)
        return run_stack(self.encoder, e, None, lengths).y, lengths

    def remember(self, y: Tensor, lengths: Tensor | None) -> tuple[Memory, Any]:
        """What `read` gives, from what `hear` gave."""
        S, B, _ = y.shape
        ends = torch.full((B,), S, device=y.device) if lengths is None else lengths.to(y.device)
        mask = torch.arange(S, device=y.device) < ends.unsqueeze(1)
        start = default_state(self.cell.cell, B, y.device, y.dtype)
        if self.bridge is not None:
            start = self.bridge(y, ends, start)
        attention: Any = self.cell.attention
        memory: Memory = attention.prepare(y.transpose(0, 1), mask)
        return memory, self.cell.start(start, memory)

    def features(
        self,
        source: Tensor,
        target: Tensor,
        source_lengths: Tensor | None = None,
        target_lengths: Tensor | None = None,
        *,
        sampling: Sampling | None = None,
    ) -> Tensor:
        """r_t `(T, B, E)` where the right tokens, `target` `(T, B)`, are fed in; see `forward`.

        sampling: some of them are the network's own instead; then the steps are a loop in Python.
        """
        memory, state = self.read(source, source_lengths)
        if sampling is not None and sampling.share > 0:
            return self._sampled(without_padding(target, target_lengths), state, memory, sampling)
        return self.follow(memory, state, target, target_lengths)

    def follow(
        self, memory: Memory, state: Any, target: Tensor, target_lengths: Tensor | None = None
    ) -> Tensor:
        """r_t `(T, B, E)` beside what `read` gave, where the right tokens are fed in."""
        e = self.target(target, target_lengths)
        if self.loop:
            y = self._unrolled(e, state, memory)
        else:
            y = self.decoder(e, state, context=memory, lengths=target_lengths).y
        return self._read_out(y, e)

    def forward(
        self,
        source: Tensor,
        target: Tensor,
        source_lengths: Tensor | None = None,
        target_lengths: Tensor | None = None,
    ) -> Tensor:
        """Logits of each next token `(T, B, K)` where the right ones, `target` `(T, B)`, are fed in.

        source `(S, B)` or `(S, B, F)`; lengths `(B,)`, None where every row takes every step.
        """
        logits: Tensor = self.head(self.features(source, target, source_lengths, target_lengths))
        return logits

    def _sampled(self, target: Tensor, state: Any, memory: Memory, sampling: Sampling) -> Tensor:
        words, found = target[0], []
        for right in [*target[1:], None]:
            e = self.target(words.unsqueeze(0))[0]
            y, state = self.cell(e, state, memory)
            found.append(self._read_out(y, e))
            if right is not None:
                own = torch.rand(right.shape, device=right.device) < sampling.share
                words = torch.where(own, self._said(found[-1], sampling), right)
        return torch.stack(found)

    @torch.no_grad()
    def _said(self, r: Tensor, sampling: Sampling) -> Tensor:
        logits: Tensor = self.head(r)
        if not sampling.drawn:
            return logits.argmax(-1)
        return torch.multinomial(logits.softmax(-1), 1).squeeze(1)

    def _unrolled(self, e: Tensor, state: Any, memory: Memory) -> Tensor:
        found = []
        for x in e:
            y, state = self.cell(x, state, memory)
            found.append(y)
        return torch.stack(found)

    def _read_out(self, y: Tensor, e: Tensor) -> Tensor:
        r: Tensor = self.dropout(torch.tanh(self.readout(torch.cat((y, e), -1))))
        return r

    @torch.no_grad()
    def encode(self, source: Tensor, lengths: Tensor | None = None) -> DecoderState:
        """The state before the first token, one row for each sentence of a source `(S, B)`; no gradient."""
        memory, state = self.read(source, lengths)
        B, S = memory.keys.shape[:2]
        weights = memory.keys.new_zeros(B, S)
        return DecoderState(state, memory, torch.arange(B, device=weights.device), weights)

    @torch.no_grad()
    def step(self, tokens: Tensor, state: DecoderState) -> NetworkOutput:
        """One step without a gradient, from `encode` on: tokens `(R,)`, logits `(R, K)`."""
        e = self.target(tokens.to(state.owners.device).unsqueeze(0))[0]
        y, weights, cell = _grouped(self.cell.look_at, e, state)
        logits = self.head(self._read_out(y, e))
        return NetworkOutput(logits, state._replace(cell=cell, weights=_of_all_heads(weights)))

    @torch.no_grad()
    def align(
        self,
        source: Tensor,
        target: Tensor,
        source_lengths: Tensor | None = None,
    ) -> Tensor:
        """Where each step looks, `(T, B, S)`, as the tokens of `target` `(T, B)` are fed in; of heads the mean."""
        memory, state = self.read(source, source_lengths)
        e, found = self.target(target), []
        for x in e:
            _, weights, state = self.cell.look_at(x, state, memory)
            found.append(_of_all_heads(weights))
        return torch.stack(found)


def _share(source: nn.Module, target: Embedding) -> None:
    if not isinstance(source, Embedding) or source.weight.shape != target.weight.shape:
        raise ValueError(
            "shared=True needs two elman.nn.Embedding of the same size, with one vocabulary of both"
        )
    source.weight = target.weight


def _of_all_heads(weights: Tensor) -> Tensor:
    """`(R, S)`; of `(R, N, S)` the mean over the heads."""
    return weights.mean(1) if weights.dim() == 3 else weights


def _grouped(
    look_at: Callable[[Tensor, Any, Memory], tuple[Tensor, Tensor, Any]], e: Tensor, state: DecoderState
) -> tuple[Tensor, Tensor, Any]:
    """A step of R rows beside n memories: as `(n, K)` rows where each sentence has K, else with the memory spread."""
    n, R = state.memory.keys.shape[0], e.shape[0]
    K = R // n if n else 1
    even = K * n == R and bool(
        (state.owners.view(n, K) == torch.arange(n, device=e.device).unsqueeze(1)).all()
    )
    if not even or K == 1:
        memory = state.memory
        if K != 1 or not even:
            memory = Memory(*(None if part is None else part[state.owners] for part in memory))  # type: ignore[arg-type]
        return look_at(e, state.cell, memory)
    y, weights, cell = look_at(
        e.unflatten(0, (n, K)),
        tree_map(lambda leaf: leaf.unflatten(0, (n, K)), state.cell),
        state.memory,
    )
    return y.flatten(0, 1), weights.flatten(0, 1), tree_map(lambda leaf: leaf.flatten(0, 1), cell)
