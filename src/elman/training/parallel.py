"""Several processes that train one model, on one machine or many; no other file of the package speaks of processes.

    torchrun --nproc-per-node 2 --max-restarts 3 -m elman train TASK ...

Every process goes through the same batches. The rows of a batch are dealt out, row j to process j mod W, so that a
batch of like lengths is one of like lengths for each; a carried state is dealt out with its streams. With w_r what the
objective of process r was divided by, and g_r its gradient, all of them take the step of one process with all rows:

    g = Σ_r w_r g_r / Σ_r w_r

torch's DistributedDataParallel adds the gradients while the backward runs (Li et al. 2020, arXiv 2006.15704). What is
drawn in a step, such as dropout, goes by seed, epoch, index and process alone, so that a checkpoint needs nothing of
the other processes but their streams, and their number may change where a training goes on.

Process 0 reads and writes the run's folder for all, measures the baselines and writes the report. Validation is shared
out piece by piece (`each`). Started by anything but `torchrun` (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT), there is
one process and all of this does nothing.
"""

from __future__ import annotations

import json
import os
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from elman.config import UserError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "Processes",
    "Shared",
    "close",
    "each",
    "here",
    "leave",
    "rows_of",
    "sharers",
    "sharing",
    "stream_axes",
]

T = TypeVar("T")
R = TypeVar("R")

# Under this name the processes of one `torchrun` find the same word, the restarted ones too.
JOB = "elman/job"


class Processes:
    """How many processes train one model, and which of them this one is."""

    def __init__(self, count: int = 1, number: int = 0) -> None:
        """Nothing is said to the others before something is asked of them."""
        self.count, self.number = count, number
        self._open = False
        self._job: str | None = None

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes."""
        return self.number == 0

    @property
    def several(self) -> bool:
        """Whether there are others."""
        return self.count > 1

    def facts(self) -> dict[str, Any]:
        """What must be the same for a training to go on bit for bit."""
        return {"processes": self.count} if self.several else {}

    # What they say to one another

    def open(self) -> Any:
        """`torch.distributed`, with all processes there."""
        import torch
        from torch import distributed

        if self._open or not self.several:
            return distributed
        if torch.cuda.is_available():
            # From here on "cuda" is this process's own device.
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
        if not distributed.is_initialized():
            both = torch.cuda.is_available() and distributed.is_nccl_available()
            distributed.init_process_group("cpu:gloo,cuda:nccl" if both else "gloo")
        self._open = True
        return distributed

    def close(self) -> None:
        """Leave the others."""
        if self._open:
            self.open().destroy_process_group()
            self._open = False

    def sums(self, values: Sequence[float]) -> list[float]:
        """The sum of each value over all processes, the same bits in all of them."""
        if not self.several:
            return list(values)
        import torch

        distributed, whole = self.open(), torch.tensor(values, dtype=torch.float64)
        distributed.all_reduce(whole)
        found: list[float] = whole.tolist()
        return found

    def any(self, *asked: bool) -> list[bool]:
        """Of each question, whether one of the processes says yes."""
        return [bool(total) for total in self.sums([float(one) for one in asked])]

    def all_of(self, array: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        """The arrays of all processes, in their order; shapes and types may differ."""
        import torch

        distributed = self.open()
        facts = json.dumps([array.dtype.str, array.shape]).encode()
        data = np.frombuffer(len(facts).to_bytes(8, "little") + facts + array.tobytes(), dtype=np.uint8)
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.count)]
        distributed.all_gather(sizes, torch.tensor([len(data)]))
        most = max(int(size) for size in sizes)
        padded = torch.zeros(most, dtype=torch.uint8)
        padded[: len(data)] = torch.from_numpy(data.copy())
        found = [torch.zeros(most, dtype=torch.uint8) for _ in range(self.count)]
        distributed.all_gather(found, padded)
        return [_array(part.numpy()[: int(size)].tobytes()) for part, size in zip(found, sizes, strict=True)]

    def same_buffers(self, model: Any) -> None:
        """Give all processes the buffers that process 0 has."""
        if self.several:
            import torch

            distributed = self.open()
            with torch.no_grad():
                for buffer in model.buffers():
                    distributed.broadcast(buffer, 0)

    # The run that this very command has begun, before a process was killed and all were started anew

    @property
    def job(self) -> str:
        """A word that the processes of one command have in common, however often they are restarted; "" for none."""
        if self._job is None:
            self._job = _job() if self.leads else ""
        return self._job

    def began(self, path: Path) -> bool:
        """Whether the run in `path` was begun by this very command; the same answer in all processes."""
        own = False
        if self.leads and self.job and (path / "run.json").is_file():
            try:
                own = json.loads((path / "run.json").read_text(encoding="utf-8")).get("job") == self.job
            except (ValueError, OSError, AttributeError):
                own = False
        return self.any(own)[0]

    # Rows and streams

    def own(self, rows: int) -> npt.NDArray[np.int64]:
        """Which of so many rows are this process's."""
        return np.arange(self.number, rows, self.count)

    def dealt(self, state: Any, axes: Sequence[int | None]) -> Any:
        """Of a state of all streams, those of this process; axes: see `stream_axes`."""
        if not self.several:
            return state
        import torch
        from torch.utils import _pytree as pytree

        leaves, structure = pytree.tree_flatten(state)
        for leaf, axis in zip(leaves, axes, strict=True):
            if axis is not None and leaf.shape[axis] < self.count:
                raise UserError(
                    f"{leaf.shape[axis]} streams cannot be shared by {self.count} processes: give a larger --batch"
                )
        own = [
            leaf
            if axis is None
            else leaf.index_select(axis, torch.from_numpy(self.own(leaf.shape[axis])).to(leaf.device))
            for leaf, axis in zip(leaves, axes, strict=True)
        ]
        return pytree.tree_unflatten(own, structure)

    def gathered(self, leaves: Sequence[Tensor], axes: Sequence[int | None]) -> list[Tensor]:
        """The inverse of `dealt`: the leaves of the state of all streams."""
        if not self.several:
            return list(leaves)
        import torch

        whole = []
        for leaf, axis in zip(leaves, axes, strict=True):
            parts = [torch.from_numpy(part.copy()) for part in self.all_of(leaf.cpu().numpy())]
            if axis is None:
                whole.append(parts[0])
                continue
            shape = list(leaf.shape)
            shape[axis] = sum(part.shape[axis] for part in parts)
            found = torch.empty(shape, dtype=leaf.dtype)
            for number, part in enumerate(parts):
                found.index_copy_(axis, torch.arange(number, shape[axis], self.count), part)
            whole.append(found)
        return whole


def _array(data: bytes) -> npt.NDArray[Any]:
    size = int.from_bytes(data[:8], "little")
    kind, shape = json.loads(data[8 : 8 + size])
    return np.frombuffer(data, dtype=np.dtype(kind), offset=8 + size).reshape(shape)


def _job() -> str:
    """The word, kept by torchrun itself, which outlives its processes."""
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return ""
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    store = TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
    if not store.check([JOB]):
        store.set(JOB, uuid.uuid4().hex)
    return str(store.get(JOB).decode())


_HERE: list[Processes] = []


def here() -> Processes:
    """The processes of which this is one. Raises UserError where their environment makes no sense."""
    if not _HERE:
        _HERE.append(_found())
    return _HERE[0]


def _found() -> Processes:
    try:
        count, number = (
            int(os.environ.get(name, default)) for name, default in (("WORLD_SIZE", "1"), ("RANK", "0"))
        )
    except ValueError as error:
        raise UserError(f"WORLD_SIZE and RANK must be numbers, as torchrun sets them ({error})") from None
    if not 0 <= number < count:
        raise UserError(f"RANK {number} is not one of {count} processes (WORLD_SIZE); start them by torchrun")
    if count > 1:
        # Else torch complains that all parameters had a part in the first batch. Read when torch is imported.
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    return Processes(count, number)


def close() -> None:
    """Leave the other processes, if there were any."""
    while _HERE:
        _HERE.pop().close()


def leave(code: int) -> None:
    """End the process with its exit code, if there were others; else do nothing.

    The interpreter's own way out may abort in threads of torch's that still wait for the others.
    """
    if not here().several:
        return
    if code == 0:
        close()
    sys.stdout and sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


# Steps


def stream_axes(one: Sequence[Any], other: Sequence[Any]) -> list[int | None]:
    """Along which axis the streams of each leaf lie, seen from states of two numbers of streams; None: along none."""
    found: list[int | None] = []
    for a, b in zip(one, other, strict=True):
        differ = [axis for axis, (n, m) in enumerate(zip(a.shape, b.shape, strict=True)) if n != m]
        found.append(differ[0] if differ else None)
    return found


class Shared:
    """The steps of a learner, shared by all processes."""

    def __init__(self, processes: Processes, learner: Any, seed: int) -> None:
        """Take a learner whose `loss` is that of this process's rows."""
        self.processes, self.learner, self.seed = processes, learner, seed
        self._module: Any = None

    def loss_and_gradient(self, epoch: int, index: int, state: Any) -> Any:
        """The loss of a batch over all processes, with the gradient of its objective in the parameters."""
        if not self.processes.several:
            out = self.learner.loss(epoch, index, state)
            out.objective.backward()
            return out
        import torch

        torch.manual_seed(self._drawn(epoch, index))
        module = self._whole()
        objective = module(epoch, index, state)
        objective.backward()
        own = module.module.out
        weight, total, predictions = self.processes.sums([own.over, own.total, own.predictions])
        gradients = [p.grad for p in self.learner.model.parameters() if p.grad is not None]
        # The sum was divided by the number of processes.
        torch._foreach_mul_(gradients, self.processes.count / max(weight, 1.0))
        return own._replace(
            objective=objective.detach(), total=total, predictions=max(1, round(predictions)), weight=weight
        )

    def loss(self, epoch: int, index: int, state: Any) -> Any:
        """The loss over all processes, without a gradient."""
        out = self.learner.loss(epoch, index, state)
        if not self.processes.several:
            return out
        weight, total, predictions = self.processes.sums([out.over, out.total, out.predictions])
        return out._replace(total=total, predictions=max(1, round(predictions)), weight=weight)

    def _drawn(self, epoch: int, index: int) -> int:
        drawn = np.random.SeedSequence([self.seed, epoch, index, self.processes.number]).generate_state(
            1, np.uint64
        )
        return int(drawn[0] >> np.uint64(1))

    def _whole(self) -> Any:
        if self._module is None:
            from torch.nn.parallel import DistributedDataParallel

            self.processes.open()
            # Not every parameter has a part in every batch.
            self._module = DistributedDataParallel(
                _step_of(self.learner), forward_sync_buffers=False, find_unused_parameters=True
            )
        return self._module


def _step_of(learner: Any) -> Any:
    """The objective of a batch, times what it was divided by, as a module; the rest of the loss stays in `out`."""
    from torch import nn

    class Step(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = learner.model

        def forward(self, epoch: int, index: int, state: Any) -> Any:
            self.out = learner.loss(epoch, index, state)
            return self.out.objective * self.out.over

    return Step()


def rows_of(
    batch: Any, rows: Callable[[Any], int], pick: Callable[[Any, npt.NDArray[np.int64]], Any]
) -> tuple[Any, bool]:
    """Of a batch the rows of this process, and whether it has any; without any it gets the first one, not to count."""
    processes = here()
    if not processes.several:
        return batch, True
    own = processes.own(rows(batch))
    return pick(batch, own if len(own) else np.zeros(1, dtype=np.int64)), bool(len(own))


# Measuring

_SHARING: list[Processes] = []


@contextmanager
def sharing(processes: Processes) -> Iterator[None]:
    """Inside, all processes measure the same, and `each` shares the work out."""
    if not processes.several:
        yield
        return
    _SHARING.append(processes)
    try:
        yield
    finally:
        _SHARING.pop()


def sharers() -> int:
    """How many processes share the work of `each` out."""
    return _SHARING[-1].count if _SHARING else 1


def each(pieces: Sequence[T], work: Callable[[T], npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
    """What `work` makes of each piece, in order: an array, of any shape.

    While a training validates, the pieces are dealt out, and every process gets the answers of all.
    """
    if not _SHARING:
        return [work(piece) for piece in pieces]
    processes = _SHARING[-1]
    answers = [np.asarray(work(pieces[i])) for i in processes.own(len(pieces))]
    facts = json.dumps([[one.dtype.str, one.shape] for one in answers]).encode()
    data = b"".join([len(facts).to_bytes(8, "little"), facts, *(one.tobytes() for one in answers)])
    found: list[Any] = [None] * len(pieces)
    for number, part in enumerate(processes.all_of(np.frombuffer(data, dtype=np.uint8))):
        for place, one in enumerate(_arrays(part.tobytes())):
            found[number + place * processes.count] = one
    return found


def _arrays(data: bytes) -> Iterator[npt.NDArray[Any]]:
    start = 8 + int.from_bytes(data[:8], "little")
    for kind, shape in json.loads(data[8:start]):
        dtype = np.dtype(kind)
        size = int(np.prod(shape, dtype=np.int64))
        yield np.frombuffer(data, dtype, size, start).reshape(shape)
        start += size * dtype.itemsize
