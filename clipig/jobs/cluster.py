"""Runs batches as Ray tasks on other cores, devices or machines.

A task runs one batch on one GPU, or on as many CPU cores as torch has threads in this process
(OMP_NUM_THREADS), so that the results are the same as here. A task whose worker dies is
retried elsewhere. The driver writes all files.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import torch

from clipig.errors import DeviceError, UsageError
from clipig.jobs.batches import Batch, Execute, Made, Tick, make
from clipig.session import Session

LOCAL = "local"
RETRIES = 5


def open_cluster(address: str, say: Callable[[str], None]) -> Execute:
    """Connect to a Ray cluster.

    Args:
        address: `local`, `auto`, or the address of a cluster.
        say: Called with one line that describes the cluster.

    Returns:
        A function that runs batches on the cluster.

    Raises:
        UsageError: The extra `ray` is not installed.
        DeviceError: The cluster cannot be reached.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray sends usage statistics by default
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError:
        raise UsageError("--ray needs the extra: pip install 'clipig[ray]'") from None
    started = not ray.is_initialized()
    if started:
        try:
            ray.init(
                None if address == LOCAL else address, log_to_driver=False,
                logging_level="ERROR", runtime_env={"env_vars": _environment()},
                **({"include_dashboard": False} if address == LOCAL else {}),
            )
        except (ConnectionError, ValueError, RuntimeError, OSError) as fault:
            raise DeviceError(f"--ray {address}: no cluster there: {fault}") from fault
    resources = ray.cluster_resources()
    say(f"Ray: {resources.get('CPU', 0):g} cores, {resources.get('GPU', 0):g} GPUs, "
        f"{len(ray.nodes())} nodes")

    def run(
        session: Session, batches: Sequence[Batch], tick: Tick | None
    ) -> Iterator[tuple[Batch, list[Made]]]:
        yield from _run(ray, batches, tick)

    return run


def _environment() -> dict[str, str]:
    """Variables with which workers find the package and compute the same results."""
    kept = {k: os.environ[k] for k in ("PYTHONPATH", "CLIPIG_CACHE") if k in os.environ}
    return {**kept, "OMP_NUM_THREADS": str(torch.get_num_threads())}


def _run(
    ray: Any, batches: Sequence[Batch], tick: Tick | None
) -> Iterator[tuple[Batch, list[Made]]]:
    if not batches:
        return
    threads = torch.get_num_threads()
    place = os.getcwd()
    waiting = list(reversed(batches))
    open_tasks: dict[Any, Batch] = {}
    total = ray.cluster_resources()
    slots = 2 * int(max(total.get("GPU", 0), total.get("CPU", 1) // threads, 1))
    try:
        while waiting or open_tasks:
            while waiting and len(open_tasks) < slots:
                batch = waiting.pop()
                task = _task(ray, batch, threads)
                open_tasks[task.remote(batch, place, threads)] = batch
            ready, _ = ray.wait(list(open_tasks), num_returns=1, timeout=1.0)
            for reference in ready:
                batch = open_tasks.pop(reference)
                try:
                    made = ray.get(reference)
                except ray.exceptions.RayTaskError as fault:
                    raise fault.as_instanceof_cause() from None
                except ray.exceptions.RayError as fault:
                    raise DeviceError(
                        f"a batch was lost with its worker {RETRIES} times "
                        f"({type(fault).__name__}); what is done stays, --resume goes on"
                    ) from fault
                if tick is not None:
                    tick(batch.steps)
                yield batch, made
    finally:
        for reference in open_tasks:
            ray.cancel(reference, force=True)


def _task(ray: Any, batch: Batch, threads: int) -> Any:
    """Make the remote function with the resources that a batch needs."""
    device = batch.jobs[0].experiment.device
    gpu = device.startswith("cuda") or (
        device == "auto" and ray.cluster_resources().get("GPU", 0) > 0
    )
    needs = {"num_gpus": 1} if gpu else {"num_cpus": threads}
    return ray.remote(max_retries=RETRIES, **needs)(work)


def work(batch: Batch, place: str, threads: int) -> list[Made]:
    """Task of a worker: run a batch, in the driver's folder if it exists there."""
    if os.path.isdir(place):
        os.chdir(place)
    torch.set_num_threads(threads)
    return make(_session(), batch)


@lru_cache(maxsize=1)
def _session() -> Session:
    """Session of a worker, kept so that each model is loaded once."""
    return Session()
