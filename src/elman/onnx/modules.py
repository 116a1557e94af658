"""Whole modules: what torch.export sees of them, written by torch's exporter with our word for recurrent layers."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
import onnx_ir.passes.common as passes
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from elman.nn import Features, FrameEncoder, SequenceClassifier, SpelledWords
from elman.nn.networks.network import Network
from elman.nn.stack import Stack
from elman.onnx.files import Drawn, drawn_like
from elman.onnx.graph import OPSET, Refused
from elman.onnx.own import KINDS
from elman.onnx.portable import portable
from elman.onnx.steps import names_of
from elman.onnx.translate import known_numbers, translations

__all__ = ["Form", "form_of", "model_of"]

_T, _B = 5, 3  # of the example that is traced
_SIZES = ((1, 2), (7, 4))  # of the cases that a file is verified on


@dataclass(frozen=True, slots=True)
class Form:
    """How a module is called in a file: a function of flat tensors (call: what is traced, own: the module itself),
    examples of them, their names, which axes of each are open, the names of the results, and what draws an x."""

    call: nn.Module
    own: nn.Module
    inputs: tuple[Tensor, ...]
    names: tuple[str, ...]
    axes: tuple[Mapping[int, str], ...]
    outputs: tuple[str, ...]
    draw: Callable[[int, int], Tensor] | None = None

    def cases(self) -> list[Callable[[], Drawn]]:
        """Drawn inputs of two sizes, and what the module gives for them."""
        return [lambda T=T, B=B: self._case(T, B) for T, B in _SIZES]  # type: ignore[misc]

    def _case(self, T: int, B: int) -> Drawn:
        sizes = {"T": T, "B": B}
        drawn = []
        for name, t, axes in zip(self.names, self.inputs, self.axes, strict=True):
            shape = [sizes.get(axes.get(d, ""), n) for d, n in enumerate(t.shape)]
            drawn.append(self._drawn(name, t, shape, T, B))
        with torch.no_grad():
            given = self.own(*drawn)
        return dict(zip(self.names, drawn, strict=True)), list(given)

    def _drawn(self, name: str, t: Tensor, shape: list[int], T: int, B: int) -> Tensor:
        if name == "lengths":
            return torch.arange(B).add(1).clamp(max=T)
        return self.draw(T, B) if name == "x" and self.draw is not None else drawn_like(t, shape)


class _Flat(nn.Module):
    """A layer or a network as a function of flat tensors."""

    def __init__(self, module: nn.Module, lengths: bool, spec: Any) -> None:
        super().__init__()
        self.module, self.lengths, self.spec = module, lengths, spec

    def forward(self, x: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        """Results in order: outputs, then the tensors of the final state where one was given."""
        options: dict[str, Any] = {"lengths": rest[0]} if self.lengths else {}
        if self.spec is not None:
            options["state"] = pytree.tree_unflatten(list(rest[int(self.lengths) :]), self.spec)
        if isinstance(self.module, Stack) and "state" in options:
            out = self.module(x, options.pop("state"), **options)
        else:
            out = self.module(x, **options)
        if isinstance(out, Tensor):
            return (out,)
        return (*pytree.tree_leaves(out[0]), *(pytree.tree_leaves(out[1]) if self.spec is not None else ()))


def form_of(module: nn.Module, x: Tensor | None, *, lengths: bool | None, state: bool | None) -> Form:
    """The form of a layer (RNN, LSTM, GRU, Recurrent) or of a network of tokens or features.

    x: an example of the input, where the module does not say what it takes. lengths, state: whether they are inputs;
    default: lengths for a classifier, the state for everything else.
    """
    whole = isinstance(module, SequenceClassifier)
    if not isinstance(module, Stack | Network):
        raise Refused(
            f"{type(module).__name__} is no layer and no network of elman.nn; export it by torch.onnx.export(..., "
            f"dynamo=True, custom_translation_table=elman.onnx.translations())"
        )
    first = bool(getattr(module, "batch_first", False))
    axes_x = {0: "B", 1: "T"} if first else {0: "T", 1: "B"}
    draw = _speller_of(module)
    example = _example(module, x, first) if draw is None else draw(_T, _B)
    if draw is not None:
        axes_x[2] = "C"
    inputs, names, axes = [example], ["x"], [axes_x]
    with_lengths = whole if lengths is None else lengths
    if with_lengths:
        inputs.append(torch.arange(_T - _B + 1, _T + 1))
        names.append("lengths")
        axes.append({0: "B"})
    spec, state_names = None, []
    if (not whole) if state is None else state:
        start, other = _start(module, _B), _start(module, _B + 1)
        leaves, spec = pytree.tree_flatten(start)
        state_names = names_of(start, "state")
        inputs += [t.clone() for t in leaves]
        names += state_names
        axes += [_differing(a, b) for a, b in zip(leaves, pytree.tree_leaves(other), strict=True)]
    own = _Flat(module, with_lengths, spec).eval()
    call = _Flat(portable(module), with_lengths, spec).eval() if isinstance(module, Network) else own
    with torch.no_grad():
        count = len(call(*inputs)) - len(state_names)
    y = "y" if isinstance(module, Stack) else "logits"
    outs = [y] if count == 1 else [f"{y}_{i}" for i in range(count)]
    outputs = (*outs, *(f"final_{n}" for n in state_names))
    return Form(call, own, tuple(inputs), tuple(names), tuple(axes), outputs, draw)


def _speller_of(module: nn.Module) -> Callable[[int, int], Tensor] | None:
    """What draws words with their letters, `(T, B, 1 + C)`, for a network that spells them."""
    words = getattr(module, "embedding", None)
    if not isinstance(words, SpelledWords):
        return None
    letters = words.speller.letters.count if words.speller is not None else 9

    def draw(T: int, B: int) -> Tensor:
        C = 4 + T % 5
        size = (torch.arange(T * B) % C + 1).view(T, B, 1)
        spelled = 1 + torch.arange(T * B * C).view(T, B, C) % (letters - 1)
        spelled = torch.where(torch.arange(C) < size, spelled, 0)
        return torch.cat((torch.arange(T * B).view(T, B, 1) % words.words.count, spelled), dim=-1)

    return draw


def _start(module: nn.Module, batch: int) -> Any:
    return module.start(batch) if isinstance(module, Stack) else module.initial_state(batch)  # type: ignore[operator]


def _differing(a: Tensor, b: Tensor) -> dict[int, str]:
    return {d: "B" for d, (m, n) in enumerate(zip(a.shape, b.shape, strict=True)) if m != n}


def _example(module: nn.Module, x: Tensor | None, first: bool) -> Tensor:
    """Of `(T, B, ...)`: drawn like `x`, or made of what the module says that it takes."""
    front = (_B, _T) if first else (_T, _B)
    if x is not None:
        return drawn_like(x, (*front, *x.shape[2:]))
    inside = module if isinstance(module, Stack) else getattr(module, "embedding", module)
    count, width = getattr(inside, "count", None), getattr(inside, "input_size", None)
    if isinstance(inside, Features):
        width = inside.dense.in_features if isinstance(inside.dense, nn.Linear) else inside.output_size
    if isinstance(count, int):
        return torch.arange(_T * _B).reshape(front) % count
    if isinstance(inside, FrameEncoder):
        return (torch.arange(_T * _B * inside.width) % 251).to(torch.uint8).reshape(*front, inside.width)
    if not isinstance(width, int):
        raise Refused(f"{type(module).__name__} does not say what it takes; give an example: x=")
    return torch.randn(*front, width, generator=torch.Generator().manual_seed(0))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Torch's exporter speaks of what concerns itself alone."""
    log = logging.getLogger("torch.onnx")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(before)


def model_of(form: Form, metadata: Mapping[str, str], nodes: Collection[str] = KINDS) -> ir.Model:
    """The model of a form. nodes: which of ONNX's own nodes it may have. Refused where something has no word there."""
    sizes = {"T": torch.export.Dim("T"), "B": torch.export.Dim("B"), "C": torch.export.Dim.DYNAMIC}
    shapes = [{d: sizes[name] for d, name in axes.items()} for axes in form.axes]
    with torch.no_grad(), _quiet():
        seen = torch.export.export(
            form.call, form.inputs, dynamic_shapes=(shapes[0], tuple(shapes[1:]))[: len(shapes)], strict=False
        )
        with known_numbers(_numbers(seen), nodes) as refusals:
            try:
                written = torch.onnx.export(
                    seen, dynamo=True, custom_translation_table=translations(), opset_version=OPSET, verbose=False,
                    input_names=form.names, output_names=form.outputs,
                )  # fmt: skip
            except Exception as error:
                raise (refusals[0] if refusals else Refused(_why(error))) from error
    assert written is not None
    model: ir.Model = written.model
    passes.RemoveUnusedNodesPass()(model)
    passes.ClearMetadataAndDocStringPass()(model)  # where on this machine each line of code lies
    _say_axes(model, form)
    for name in list(model.graph.initializers):
        if name.startswith("module."):
            model.graph.initializers[name].name = _free(name.removeprefix("module."), form, model)
    model.producer_name = "elman"
    model.metadata_props.update(metadata)
    return model


def _free(name: str, form: Form, model: ir.Model) -> str:
    taken = {*form.names, *form.outputs, *model.graph.initializers}
    return f"module.{name}" if name in taken else name


def _why(error: BaseException) -> str:
    """The innermost reason of torch's exporter."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"torch's exporter cannot write this module: {type(error).__name__}: {error}"


def _numbers(seen: torch.export.ExportedProgram) -> dict[str, Tensor]:
    """The tensors of an exported program by the names that its graph has for them."""
    signature = seen.graph_signature
    names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    found = {given: seen.state_dict[name] for given, name in names.items() if name in seen.state_dict}
    constants = {**signature.inputs_to_lifted_tensor_constants, **signature.inputs_to_buffers}
    found |= {given: seen.constants[name] for given, name in constants.items() if name in seen.constants}
    return {name: t.detach() for name, t in found.items() if isinstance(t, Tensor)}


def _say_axes(model: ir.Model, form: Form) -> None:
    """Inputs are called T and B where they are open."""
    for value, t, axes in zip(model.graph.inputs, form.inputs, form.axes, strict=True):
        value.shape = ir.Shape([axes.get(d, n) for d, n in enumerate(t.shape)])
