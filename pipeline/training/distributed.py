"""Several processes, started by torchrun on one or more machines, that train one model together.

Each computes its share of every batch; gradients and losses are summed, so all take the same step.
"""

import hashlib
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from typing import Any

import torch
from torch import distributed, nn

from pipeline.errors import UsageError, WorkspaceError

Group = Any  # of torch.distributed


class LostProcessError(WorkspaceError):
    """Another process ended or cannot be reached."""


class Processes:
    """The processes of this run, seen from one of them.

    Args:
        rank: of this process; rank 0 writes and prints.
        count: of all processes.
        control: group for numbers that are not on the GPU; None if the default group works for all.
    """

    def __init__(self, rank: int = 0, count: int = 1, control: Group | None = None) -> None:
        self.rank, self.count, self._control = rank, count, control
        self._sums: list[Any] = []

    @property
    def is_first(self) -> bool:
        """Whether this is the one that writes and prints."""
        return self.rank == 0

    def share(self, items: int) -> slice:
        """The slice of ``items`` items that this process computes."""
        return slice(items * self.rank // self.count, items * (self.rank + 1) // self.count)

    def sum_gradients(self, network: nn.Module) -> None:
        """From now on, sum each gradient of a network over all processes as soon as it is computed."""
        if self.count > 1:
            for parameter in network.parameters():
                hook = parameter.register_post_accumulate_grad_hook
                hook(lambda changed: self._start_sum(changed.grad))  # type: ignore[no-untyped-call]

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Start summing values over all processes, in place; the sums are complete after ``finish``."""
        self._start_sum(values)
        return values

    def finish(self) -> None:
        """Wait until all sums are complete.

        Raises:
            LostProcessError: another process is gone.
        """
        with _lost_process_named():
            for pending in self._sums:
                pending.wait()
        self._sums.clear()

    def largest(self, number: int) -> int:
        """The largest of the processes' numbers.

        Raises:
            LostProcessError: another process is gone.
        """
        if self.count == 1:
            return number
        numbers = torch.tensor([number])
        with _lost_process_named():
            distributed.all_reduce(numbers, distributed.ReduceOp.MAX, group=self._control)
        return int(numbers.item())

    def check_equal(self, what: str, facts: str) -> None:
        """Check that the text ``facts`` is the same in all processes.

        Raises:
            WorkspaceError: they are not; the message names ``what``.
        """
        number = int(hashlib.sha256(facts.encode()).hexdigest()[:15], 16)
        if self.largest(number) != -self.largest(-number):
            raise WorkspaceError(f"the processes see different {what}: give all machines the same workspace and data")

    def _start_sum(self, values: torch.Tensor | None) -> None:
        if self.count > 1 and values is not None:
            with _lost_process_named():
                self._sums.append(distributed.all_reduce(values, async_op=True))


@contextmanager
def join_processes(no_cuda: bool) -> Iterator[tuple[Processes, torch.device]]:
    """Join the other processes of this run, if torchrun started several, while the block runs.

    Yields:
        The processes, and the device that this one computes on.

    Raises:
        UsageError: there are more processes on this machine than GPUs, or the others cannot be reached.
    """
    on_gpu = torch.cuda.is_available() and not no_cuda
    count, local_rank = _from_environment("WORLD_SIZE", 1), _from_environment("LOCAL_RANK", 0)
    if on_gpu and local_rank >= torch.cuda.device_count():
        raise UsageError(f"more processes than the {torch.cuda.device_count()} GPUs: use --nproc-per-node gpu")
    device = torch.device("cuda", local_rank) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(device)
    if count == 1:
        yield Processes(), device
        return
    try:
        control = _meet(device)
    except (ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0][:200]
        remedy = "start all with torchrun, or unset WORLD_SIZE"
        raise UsageError(f"cannot join {count - 1} other processes ({reason}): {remedy}") from error
    try:
        yield Processes(distributed.get_rank(), count, control), device
    finally:
        distributed.destroy_process_group()


def _meet(device: torch.device) -> Group:
    """Join the other processes, in a thread, because torch ignores signals while it waits; return the control group.

    It is None if the default group works for all numbers.
    """
    met: Future[Group] = Future()

    def meet() -> None:
        try:
            if device.type == "cuda":
                torch.cuda.set_device(device)  # each thread has its own
            distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
            met.set_result(distributed.new_group(backend="gloo") if device.type == "cuda" else None)
        except Exception as error:  # noqa: BLE001 - raised again where it is waited for
            met.set_exception(error)

    threading.Thread(target=meet, name="meet", daemon=True).start()
    while not met.done():
        wait([met], timeout=0.2)  # on Windows no signal ends a wait without a timeout
    return met.result()


def local_process_count() -> int:
    """How many processes of this run share this machine."""
    return _from_environment("LOCAL_WORLD_SIZE", 1)


def _from_environment(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    if not text.isdecimal():
        raise UsageError(f"the environment has {name}={text}: start several processes with torchrun, or unset it")
    return int(text)


@contextmanager
def _lost_process_named() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise LostProcessError(
            f"another process of this training ended or cannot be reached ({str(error).splitlines()[0][:200]}); "
            "what was saved last is kept; see what the other reported, then type the same command to continue"
        ) from error
