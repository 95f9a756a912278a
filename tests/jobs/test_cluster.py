"""Batches as Ray tasks: equal to the local run, whoever dies on the way."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from clipig.config.load import load
from clipig.errors import UsageError
from clipig.jobs.batches import Batch, Job, Scoring, execute
from clipig.session import Session
from tests.support.ranking import contents, environment

RECIPE = {
    "epochs": 40, "resolution": 32, "model": "embedded", "device": "cpu",
    "targets": [{"batch_size": 2, "features": [{"text": "a penguin"}],
                 "transforms": [{"random_shift": 0.1}, {"resize": 64}]}],
}


def batches(count: int) -> list[Batch]:
    experiment = load(RECIPE)
    return [
        Batch(f"{i:05d}", tuple(
            Job(f"{i}-{k}", experiment.model_copy(update={"seed": 10 * i + k})) for k in range(2)
        ), Scoring(None, 4)) for i in range(count)
    ]


def outcome(pairs: Any) -> dict[str, Any]:
    return {m.name: m for _, made in pairs for m in made}


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    from clipig.jobs.cluster import open_cluster

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"clipig\[ray\]"):
        open_cluster("local", print)


@pytest.mark.slow
def test_a_worker_that_dies_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="the extra clipig[ray] is not installed")
    import ray
    from ray.cluster_utils import Cluster

    from clipig.jobs.cluster import open_cluster

    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    cluster = Cluster(initialize_head=True, head_node_args={
        "num_cpus": 0, "include_dashboard": False, "object_store_memory": 100 << 20,
    })
    workers = [
        cluster.add_node(num_cpus=1, object_store_memory=100 << 20) for _ in range(2)
    ]
    try:
        work = batches(8)
        ticks: list[int] = []
        run = open_cluster(cluster.address, lambda text: None)
        pairs = []
        for pair in run(Session(), work, ticks.append):
            pairs.append(pair)
            if len(pairs) == 2:  # in the middle of others
                threading.Thread(
                    target=cluster.remove_node, args=(workers[0],),
                    kwargs={"allow_graceful": False},
                ).start()
        remote = outcome(pairs)
        local = outcome(execute(Session(), work))
    finally:
        ray.shutdown()
        cluster.shutdown()
        torch.set_num_threads(threads)
    assert sum(ticks) == sum(b.steps for b in work)
    assert len(pairs) == len(work)
    assert remote.keys() == local.keys()
    for name, m in remote.items():
        assert not m.error
        assert torch.equal(m.picture, local[name].picture)
        assert (m.fresh, m.last) == (local[name].fresh, local[name].last)


@pytest.mark.slow
def test_rank_by_ray_is_rank(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra clipig[ray] is not installed")
    (tmp_path / "small.yaml").write_text(
        "epochs: 4\nresolution: 32\nmodel: embedded\ntargets:\n"
        "  - features: [{text: a penguin}]\n    transforms: [{resize: 64}]\n"
    )
    for folder, more in (("a", ()), ("b", ("--ray",))):
        words = [sys.executable, "-m", "clipig", "rank", "small.yaml", "--runs", "4", "--top", "1",
                 "--bottom", "1", "--short-epochs", "2", "--final-epochs", "3", "--views", "2",
                 "--batch", "2", "--seed", "1", "-q", "-o", "x", *more]
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "small.yaml").write_text((tmp_path / "small.yaml").read_text())
        done = subprocess.run(words, cwd=tmp_path / folder, env=environment(),
                              capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "a/x") == contents(tmp_path / "b/x")
