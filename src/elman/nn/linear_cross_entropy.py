"""An output layer with its loss, in blocks of rows: the logits of all rows are never there at once."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules import module

from elman.engine import LogitBlock, RowScales, empty_rows, in_memory

__all__ = ["HeadLoss", "LinearCrossEntropy", "head_cross_entropy", "linear_cross_entropy"]

Reduction = Literal["none", "mean", "sum"]
REDUCTIONS = ("none", "mean", "sum")
# Bytes of the logits of a block: so large that its products run at the rate of large ones.
BLOCK = 8 << 20


class HeadLoss(NamedTuple):
    """loss: a scalar, or one for each row. nll: -log p(target) of each row in nats, 0 where ignored; no gradient."""

    loss: Tensor
    nll: Tensor


class _Options(NamedTuple):
    """How rows are weighed. weight: of the classes."""

    weight: Tensor | None
    ignore: int
    reduction: Reduction
    smoothing: float


class LinearCrossEntropy(nn.Module):
    r"""A linear layer, softmax and cross entropy in one: `F.cross_entropy(F.linear(x, W, b), target)`.

        o_r = W x_r + b                     p_r = softmax(o_r)
        loss_r = -(1 - ε) w[t_r] log p_r[t_r] - ε / K Σ_k w[k] log p_r[k]
        loss = Σ_r loss_r / Σ_r w[t_r]      "mean"; Σ_r loss_r: "sum"; loss_r: "none"

    x `(..., H)`, target t `(...)` of whole numbers from 0 to K - 1, or `ignore_index`; such rows count nothing.
    W `(K, H)`, b `(K,)`. ε: `label_smoothing` (Szegedy et al. 2016, section 7). w `(K,)`: `class_weight`, or ones.

    The logits are there for some rows at a time, and for "mean" and "sum" they become gradients of x, W and b at once,
    in the forward pass, as these are known up to a factor. For "none" the backward pass computes the logits again.
    Beside the gradients a call takes 8 MiB, whatever the rows. NaN in an ignored row reaches no gradient (torch's calls
    spread it).

    `layer.weight = table.weight` ties it to an embedding. In float32 and float64 on the CPU the compiled core does it;
    under autocast, in half precision, on other devices, in torch.func, forward-mode derivatives, torch.compile and
    export, torch's own calls do, with their memory. Gradients of gradients are torch's too.

    ValueError and IndexError for what does not fit, before any work. torch.nn.LinearCrossEntropyLoss (2.13) is another
    one that cuts rows, in torch's operations.
    """

    def __init__(
        self,
        in_features: int,
        classes: int,
        bias: bool = True,
        *,
        class_weight: Tensor | None = None,
        ignore_index: int = -100,
        reduction: Reduction = "mean",
        label_smoothing: float = 0.0,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Take H and K; weights start as those of `nn.Linear`."""
        super().__init__()
        _check_options(_Options(class_weight, ignore_index, reduction, label_smoothing))
        linear = nn.Linear(in_features, classes, bias, device=device, dtype=dtype)
        self.in_features, self.classes = in_features, classes
        self.weight, self.bias = linear.weight, linear.bias
        self.register_buffer("class_weight", class_weight)
        self.ignore_index, self.reduction, self.label_smoothing = ignore_index, reduction, label_smoothing

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        """The loss."""
        weight: Any = self.class_weight
        options = _Options(weight, self.ignore_index, self.reduction, self.label_smoothing)
        return _loss(x, self.weight, self.bias, target, options, nll=False)[0]

    def logits(self, x: Tensor) -> Tensor:
        """o `(..., K)`."""
        return F.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        """Sizes and options."""
        return (
            f"in_features={self.in_features}, classes={self.classes}, bias={self.bias is not None}, "
            f"ignore_index={self.ignore_index}, reduction={self.reduction!r}, label_smoothing={self.label_smoothing}"
        )


def linear_cross_entropy(
    x: Tensor,
    weight: Tensor,
    target: Tensor,
    bias: Tensor | None = None,
    *,
    class_weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    label_smoothing: float = 0.0,
) -> HeadLoss:
    """`LinearCrossEntropy` of given weights, and beside its loss -log p of each target."""
    options = _Options(class_weight, ignore_index, reduction, label_smoothing)
    return HeadLoss(*_loss(x, weight, bias, target, options, nll=True))


def head_cross_entropy(
    head: nn.Module,
    x: Tensor,
    target: Tensor,
    *,
    class_weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    label_smoothing: float = 0.0,
    by_torch: bool = False,
) -> HeadLoss:
    """`linear_cross_entropy` of an output layer: a plain `nn.Linear`; what else it is, or has hooks, is called.

    by_torch: the layer is called in any case, and torch computes the loss of all its logits: to compare with.
    """
    options = _Options(class_weight, ignore_index, reduction, label_smoothing)
    if type(head) is nn.Linear and not by_torch and not _hooked(head):
        return HeadLoss(*_loss(x, head.weight, head.bias, target, options, nll=True))
    _check_options(options)
    return HeadLoss(*_of_logits(head(x), target, options, nll=True))


def _hooked(head: nn.Module) -> bool:
    own: Any = head
    return bool(
        own._forward_hooks or own._forward_pre_hooks or own._backward_hooks or own._backward_pre_hooks
        or module._has_any_global_hook()
    )  # fmt: skip


# What does not fit


def _check_options(options: _Options) -> None:
    if options.reduction not in REDUCTIONS:
        raise ValueError(f"reduction is {options.reduction!r}; expected one of {REDUCTIONS}")
    if not 0 <= options.smoothing <= 1:
        raise ValueError(f"label_smoothing is {options.smoothing}; expected a share from 0 to 1")


def _check(x: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, options: _Options) -> None:
    _check_options(options)
    if weight.dim() != 2:
        raise ValueError(f"the weight has shape {tuple(weight.shape)}; expected (K, H): classes, features")
    K, H = weight.shape
    if x.dim() < 1 or x.shape[-1] != H:
        raise ValueError(f"x has shape {tuple(x.shape)}; expected (..., {H}), as the weight is {(K, H)}")
    if target.is_floating_point() or target.is_complex() or target.dtype == torch.bool:
        raise ValueError(
            f"target is {target.dtype}; expected whole numbers, a class for each row (for chances of classes: "
            f"F.cross_entropy(layer.logits(x), target))"
        )
    if target.shape != x.shape[:-1]:
        raise ValueError(
            f"target has shape {tuple(target.shape)}; expected {tuple(x.shape[:-1])}, a class for each row of x "
            f"{tuple(x.shape)}"
        )
    for name, vector in (("bias", bias), ("class_weight", options.weight)):
        if vector is not None and vector.shape != (K,):
            raise ValueError(f"{name} has shape {tuple(vector.shape)}; expected ({K},), one for each class")


def _check_targets(target: Tensor, K: int, ignore: int) -> None:
    """IndexError for a class that is not there."""
    wrong = ((target < 0) | (target >= K)) & (target != ignore)
    if wrong.any():
        row = int(wrong.nonzero()[0])
        raise IndexError(
            f"target {row} of {len(target)} is class {int(target[row])}; expected 0 to {K - 1}, or ignore_index, "
            f"{ignore}, for a row that does not count"
        )


# The loss


def _loss(
    x: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, options: _Options, *, nll: bool
) -> tuple[Tensor, Tensor]:
    """The loss and, if asked for, -log p of each row (else anything)."""
    _check(x, weight, bias, target, options)
    given = [t for t in (x, weight, bias, options.weight) if t is not None]
    by_torch = options.weight is not None and (
        options.weight.requires_grad or not options.weight.isfinite().all()
    )
    if by_torch or not in_memory(*given) or target.device != x.device:
        return _of_logits(F.linear(x, weight, bias), target, options, nll=nll)
    flat, truth = x.reshape(-1, x.shape[-1]), target.reshape(-1).long()
    _check_targets(truth, len(weight), options.ignore)
    counted = truth != options.ignore
    if not counted.any():
        return _of_logits(F.linear(x, weight, bias), target, options, nll=nll)
    if counted.all():
        loss, found = _of_rows(flat, weight, bias, truth, options)
        return (loss.view(target.shape) if loss.dim() else loss), found.view(target.shape)
    rows = counted.nonzero().squeeze(1)
    loss, found = _of_rows(flat.index_select(0, rows), weight, bias, truth[rows], options)
    return (_spread(loss, rows, target) if loss.dim() else loss), _spread(found, rows, target)


def _spread(values: Tensor, rows: Tensor, target: Tensor) -> Tensor:
    """Values of some rows among zeros."""
    return values.new_zeros(target.numel()).index_copy(0, rows, values).view(target.shape)


def _of_logits(logits: Tensor, target: Tensor, options: _Options, *, nll: bool) -> tuple[Tensor, Tensor]:
    """By torch's own calls."""
    K = logits.shape[-1]
    flat, truth = logits.reshape(-1, K), target.reshape(-1).long()
    weight, ignore, reduction, smoothing = options
    loss = F.cross_entropy(
        flat, truth, weight, ignore_index=ignore, reduction=reduction, label_smoothing=smoothing
    )
    if reduction == "none":
        loss = loss.view(target.shape)
    if not nll:
        return loss, loss
    if reduction == "none" and weight is None and not smoothing:
        return loss, loss.detach()
    found = F.cross_entropy(flat.detach(), truth, ignore_index=ignore, reduction="none")
    return loss, found.view(target.shape)


def _of_rows(
    x: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, options: _Options
) -> tuple[Tensor, Tensor]:
    """In blocks; every target counts."""
    K = len(weight)
    by_class = options.weight
    of_target = x.new_ones(len(x)) if by_class is None else by_class.detach()[target]
    right = (1 - options.smoothing) * of_target
    scale = None
    if options.reduction == "sum":
        scale = x.new_ones(len(x))
    elif options.reduction == "mean":
        total = float(of_target.sum(dtype=torch.float64))
        if abs(total) * torch.finfo(x.dtype).max < 1:  # 1 / total is none, or infinite
            return _of_logits(F.linear(x, weight, bias), target, options, nll=True)
        scale = x.new_full((len(x),), 1 / total)
    terms = _Terms(target, None if by_class is None else by_class.detach().contiguous(), right, scale)
    learns = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (x, weight, bias))
    found: tuple[Tensor, Tensor] = _Blocks.apply(  # type: ignore[no-untyped-call]
        x, weight, bias, *terms, options.smoothing / K, learns
    )
    return found


class _Terms(NamedTuple):
    """loss_r = scale_r (right_r nll_r + spread Σ_k w_k nll_rk), w: by_class. scale: None for one loss a row."""

    target: Tensor
    by_class: Tensor | None
    right: Tensor
    scale: Tensor | None


class _Passed(NamedTuple):
    losses: Tensor
    nll: Tensor
    grads: tuple[Tensor | None, ...]


def _passed(
    x: Tensor, weight: Tensor, bias: Tensor | None, terms: _Terms, spread: float, wanted: tuple[bool, ...]
) -> _Passed:
    """All rows, block by block. wanted: which of the gradients by x, weight and bias; `scale` is that of each row."""
    (N, H), K, dtype = x.shape, len(weight), x.dtype
    count = -(-N * K * dtype.itemsize // BLOCK)
    count = max(1, min(count, -(-N // 16)))
    block = LogitBlock(-(-N // count), K, dtype)
    bias = None if bias is None else bias.contiguous()
    nll = x.new_empty(N)
    even = x.new_empty(N) if spread else None
    dx = x.new_empty(N, H) if wanted[0] else None
    dw = empty_rows(K, H, dtype) if wanted[1] else None
    db = x.new_empty(K) if wanted[2] else None
    learns = any(wanted)
    scales = _scales(terms, spread, K) if learns else None
    for i in range(count):
        part = slice(N * i // count, N * (i + 1) // count)
        target = terms.target[part]
        z = block.rows(len(target))
        torch.mm(x[part], weight.t(), out=z)
        block.losses(
            target, bias, terms.by_class, nll[part], None if even is None else even[part], keeps=learns
        )
        if scales is None:
            continue
        own = RowScales(*(None if t is None else t[part] for t in scales))  # type: ignore[arg-type]
        block.gradient(target, terms.by_class, own, db, adds=i > 0)
        if dx is not None:
            torch.mm(z, weight, out=dx[part])
        if dw is not None and i:
            dw.addmm_(z.t(), x[part])
        elif dw is not None:
            torch.mm(z.t(), x[part], out=dw)
    losses = terms.right * nll
    if even is not None:
        losses.add_(even, alpha=spread)
    return _Passed(losses, nll, (dx, dw, db))


def _scales(terms: _Terms, spread: float, K: int) -> RowScales:
    assert terms.scale is not None
    whole = spread * (K if terms.by_class is None else float(terms.by_class.sum(dtype=torch.float64)))
    even = spread * terms.scale if spread else None
    return RowScales((terms.right + whole) * terms.scale, terms.right * terms.scale, even)


class _Blocks(torch.autograd.Function):
    """Gradients with the loss where they are known up to one factor; else they are computed when it is known."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, by_class: Tensor | None,
        right: Tensor, scale: Tensor | None, spread: float, learns: bool,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        wanted = tuple(learns and scale is not None and need for need in ctx.needs_input_grad[:3])
        terms = _Terms(target, by_class, right, scale)
        found = _passed(x, weight, bias, terms, spread, wanted)
        if learns:
            ctx.save_for_backward(x, weight, bias, target, by_class, right, scale)
            ctx.spread, ctx.grads = spread, found.grads if any(wanted) else None
        ctx.mark_non_differentiable(found.nll)
        loss = found.losses
        if scale is not None:
            loss = (loss.sum(dtype=torch.float64) * scale[0].double()).to(x.dtype)
        return loss, found.nll

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, *rest = ctx.saved_tensors
        terms, wanted = _Terms(*rest), ctx.needs_input_grad[:3]
        if torch.is_grad_enabled():
            found = _differentiable((x, weight, bias), terms, ctx.spread, wanted, grad)
        elif ctx.grads is not None:
            # Handed out once: what comes out may become a parameter's .grad as it is.
            found, ctx.grads = ctx.grads, None
            if float(grad) != 1:
                found = tuple(None if t is None else t.mul_(grad) for t in found)
        else:
            scale = grad if terms.scale is None else grad * terms.scale
            scaled = terms._replace(scale=scale.contiguous())
            found = _passed(x, weight, bias, scaled, ctx.spread, wanted).grads
        return (*found, None, None, None, None, None, None)


def _differentiable(
    inputs: tuple[Tensor, Tensor, Tensor | None],
    terms: _Terms,
    spread: float,
    wanted: tuple[bool, ...],
    grad: Tensor,
) -> tuple[Tensor | None, ...]:
    """Gradients that have gradients: by torch, of all logits."""
    log_p = F.linear(*inputs).log_softmax(-1)
    losses = -terms.right * log_p.gather(1, terms.target.unsqueeze(1)).squeeze(1)
    if spread:
        weighed = log_p if terms.by_class is None else log_p * terms.by_class
        losses = losses - spread * weighed.sum(1)
    loss = losses if terms.scale is None else (losses * terms.scale).sum()
    asked = [t for t, wants in zip(inputs, wanted, strict=True) if wants and t is not None]
    found = iter(torch.autograd.grad(loss, asked, grad, create_graph=True))
    return tuple(next(found) if wants else None for wants in wanted)
