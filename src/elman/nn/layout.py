"""How the caller's sequences lie, how the engine wants them, and the way back.

The engine takes time first, the batch second and lengths apart. A caller may come with the batch first, with one
sequence that has no batch axis, or with a PackedSequence, whose rows are sorted by length.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence
from torch.utils._pytree import tree_leaves, tree_map

from elman.engine import Taken, taken

__all__ = ["Sequences", "going", "lay_out", "stays_a_view", "without_padding", "writable"]


@dataclass(slots=True)
class Sequences:
    """Sequences as the engine takes them, and the caller's layout.

    x: leaves `(T, B, ...)`; lengths `(B,)` or None; reset `(T, B)` or None. `batched` is false for one sequence
    without a batch axis; `packed` is the PackedSequence that the sequences came in. `taken`: which steps of the caller
    these are, where a mask leaves some out and they have been moved together; `mask` `(T, B)`: it goes to the scans.
    """

    x: Any
    lengths: Tensor | None
    reset: Tensor | None
    batch_first: bool
    batched: bool
    packed: PackedSequence | None
    taken: Taken | None = None
    mask: Tensor | None = None

    @property
    def batch(self) -> int:
        """Number of rows."""
        x = self.x if isinstance(self.x, Tensor) else tree_leaves(self.x)[0]
        batch: int = x.shape[1]  # not int(): export keeps it open
        return batch

    def rows_in(self, tree: Any) -> Any:
        """Leaves `(B, ...)` in the caller's order (or without a batch axis) -> `(B, ...)` in the engine's order."""
        if not self.batched:
            return tree_map(lambda leaf: leaf.unsqueeze(0), tree)
        return tree if self.packed is None else _reorder(tree, self.packed.sorted_indices, 0)

    def rows_out(self, tree: Any) -> Any:
        """The inverse of `rows_in`."""
        if not self.batched:
            return tree_map(lambda leaf: writable(leaf.squeeze(0)), tree)
        return tree if self.packed is None else _reorder(tree, self.packed.unsorted_indices, 0)

    def steps_out(self, tree: Any) -> Any:
        """Leaves `(T, B, ...)` of the engine -> the caller's axes and row order, zeros where a row took no step."""
        if self.taken is not None:
            tree = tree_map(self.taken.steps_out, tree)
        if not self.batched:
            return tree_map(lambda leaf: writable(leaf.squeeze(1)), tree)
        if self.packed is not None:
            tree = _reorder(tree, self.packed.unsorted_indices, 1)
        return tree_map(lambda leaf: writable(leaf.transpose(0, 1)), tree) if self.batch_first else tree

    def outputs_out(self, y: Any) -> Any:
        """The outputs `(T, B, ...)` in the caller's layout: a PackedSequence where the input was one."""
        if self.packed is None:
            return self.steps_out(y)
        if isinstance(y, PackedSequence):
            return y
        ends = self.lengths
        if self.taken is not None:
            y, ends = self.taken.steps_out(y), lengths_of(self.packed)
        assert ends is not None
        data = pack_padded_sequence(y, ends).data
        return PackedSequence(
            data, self.packed.batch_sizes, self.packed.sorted_indices, self.packed.unsorted_indices
        )


def lay_out(
    x: Any,
    *,
    lengths: Tensor | None,
    reset: Tensor | None,
    batch_first: bool,
    batched: bool = True,
    mask: Tensor | None = None,
    holes: bool = False,
) -> Sequences:
    """The caller's `x`, a tensor, a tuple of tensors or a PackedSequence, time first.

    `batch_first` says where the batch axis of x, mask and reset is; `batched=False` that there is none. Lengths are
    given with padded input only: ValueError beside a PackedSequence (it has its own) or one sequence (cut it instead).
    With a mask each row's steps are moved together; `steps_out` and `outputs_out` put what they give in its place.
    `holes`: it may stay as it is where the core finds the steps, for scans that take one.
    """
    plain = lengths is None and reset is None and mask is None
    if plain and isinstance(x, Tensor) and batched and x.dim() >= 2 and x.numel():
        return Sequences(x.transpose(0, 1) if batch_first else x, None, None, batch_first, True, None)
    if mask is None:
        return _lay_out(x, lengths, reset, batch_first, batched)
    laid = _lay_out(x, lengths, reset, batch_first, batched)
    mask = _mask_in(torch.as_tensor(mask), laid)
    if holes and laid.reset is None and _on_cpu(laid.x) and not torch.compiler.is_compiling():
        return laid if bool(mask.all()) else replace(laid, mask=mask)
    steps = taken(mask, laid.lengths)
    if steps is None:
        return laid
    reset = None if laid.reset is None else steps.resets_in(laid.reset)
    x = tree_map(steps.steps_in, laid.x)
    return replace(laid, x=x, lengths=steps.lengths, reset=reset, taken=steps)


def _on_cpu(x: Any) -> bool:
    return all(leaf.device.type == "cpu" for leaf in tree_leaves(x))


def _mask_in(mask: Tensor, laid: Sequences) -> Tensor:
    """The caller's mask as `(T, B)` with rows in the engine's order."""
    T, B = tree_leaves(laid.x)[0].shape[:2]
    wanted = (T,) if not laid.batched else (B, T) if laid.batch_first else (T, B)
    if mask.dtype != torch.bool or mask.shape != wanted:
        raise ValueError(
            f"mask is {mask.dtype} of shape {tuple(mask.shape)}; expected torch.bool of shape {wanted}, true where a "
            f"step is taken"
        )
    if not laid.batched:
        return mask.unsqueeze(1)
    mask = mask.transpose(0, 1) if laid.batch_first else mask
    return mask if laid.packed is None else _reorder(mask, laid.packed.sorted_indices, 1)


def _lay_out(
    x: Any, lengths: Tensor | None, reset: Tensor | None, batch_first: bool, batched: bool
) -> Sequences:
    lengths = None if lengths is None else torch.as_tensor(lengths)
    reset = None if reset is None else torch.as_tensor(reset)
    if isinstance(x, PackedSequence):
        return _unpack(x, lengths, reset, batch_first)
    if not batched:
        if lengths is not None:
            raise ValueError(
                "lengths were given with one sequence without a batch axis; cut the sequence instead"
            )
        x = tree_map(lambda leaf: leaf.unsqueeze(1), x)
        reset = None if reset is None else reset.unsqueeze(1)
    elif batch_first:
        x = tree_map(lambda leaf: leaf.transpose(0, 1), x)
        reset = reset if reset is None or reset.dim() != 2 else reset.transpose(0, 1)
    T, B = tree_leaves(x)[0].shape[:2]
    _check_steps(x, T, B)
    _check_marks(lengths, reset, T, B, batch_first)
    return Sequences(x, lengths, reset, batch_first, batched, None)


def _unpack(
    packed: PackedSequence, lengths: Tensor | None, reset: Tensor | None, batch_first: bool
) -> Sequences:
    if lengths is not None:
        raise ValueError("lengths were given with a PackedSequence, which has its own; leave them out")
    rows_sorted = PackedSequence(packed.data, packed.batch_sizes, None, None)
    x, own_lengths = pad_packed_sequence(rows_sorted)
    T, B = x.shape[:2]
    if reset is not None:
        reset = reset.transpose(0, 1) if batch_first and reset.dim() == 2 else reset
        _check_marks(None, reset, T, B, batch_first)
        reset = _reorder(reset, packed.sorted_indices, 1)
    return Sequences(x, own_lengths, reset, batch_first, True, packed)


def lengths_of(packed: PackedSequence) -> Tensor:
    """The lengths of its rows, longest first."""
    steps = torch.arange(int(packed.batch_sizes[0])).unsqueeze(1)
    return (steps < packed.batch_sizes).sum(1)


def _reorder(tree: Any, order: Tensor | None, axis: int) -> Any:
    if order is None:
        return tree
    return tree_map(lambda leaf: leaf.index_select(axis, order.to(leaf.device)), tree)


def _check_steps(x: Any, T: int, B: int) -> None:
    for leaf in tree_leaves(x):
        if leaf.dim() < 2 or leaf.shape[:2] != (T, B):
            shapes = ", ".join(str(tuple(v.shape)) for v in tree_leaves(x))
            raise ValueError(
                f"the inputs, time first, have shapes {shapes}; expected equal T and B in all of them"
            )
    if T == 0:
        raise RuntimeError("Expected sequence length to be larger than 0, got an input of no steps")


def _check_marks(lengths: Tensor | None, reset: Tensor | None, T: int, B: int, batch_first: bool) -> None:
    if lengths is not None:
        if lengths.is_floating_point() or lengths.dtype == torch.bool:
            raise TypeError(f"lengths is {lengths.dtype}; expected an integer tensor of shape ({B},)")
        if lengths.shape != (B,):
            raise ValueError(
                f"lengths has shape {tuple(lengths.shape)}; expected ({B},), one length for each row"
            )
    if reset is not None and (reset.dtype != torch.bool or reset.shape != (T, B)):
        given = tuple(reset.t().shape) if batch_first and reset.dim() == 2 else tuple(reset.shape)
        wanted = f"({B}, {T})" if batch_first else f"({T}, {B})"
        raise ValueError(f"reset is {reset.dtype} of shape {given}; expected torch.bool of shape {wanted}")


def without_padding(x: Tensor, lengths: Tensor | None, mask: Tensor | None = None) -> Tensor:
    """`x` `(T, B, ...)` with zeros where a row has ended or a mask `(T, B)` is false, whatever stood there."""
    if lengths is None and mask is None:
        return x
    valid = going(x, lengths) if lengths is not None else torch.ones((), dtype=torch.bool, device=x.device)
    valid = valid if mask is None else valid & mask.to(x.device)
    return torch.where(valid.view(*valid.shape, *[1] * (x.dim() - 2)), x, x.new_zeros(()))


def going(x: Tensor, lengths: Tensor) -> Tensor:
    """bool `(T, B)` for `x` `(T, B, ...)`: true at the steps that a row takes, false in its padding."""
    return torch.arange(x.shape[0], device=x.device).unsqueeze(1) < lengths.to(x.device)


def writable(view: Tensor) -> Tensor:
    """The same memory as a tensor that may be written in place later on, with gradients too.

    A view that was made under `no_grad` may not; without a gradient it needs not be one.
    """
    return view if stays_a_view() else view.data


def stays_a_view() -> bool:
    """Whether a part of a tensor has to be a view of it: for a gradient, a compiler or a transform."""
    return (
        torch.is_grad_enabled()
        or torch.compiler.is_compiling()
        or torch._C._functorch.peek_interpreter_stack() is not None
    )
