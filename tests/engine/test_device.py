"""Devices: names that are refused, and systems that report no memory."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from clipig.engine.device import peak_memory, pick_device
from clipig.errors import DeviceError


@pytest.mark.parametrize("name", ["gpu", "cpu:x", "cuda:99", "cuda:x", ""])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(DeviceError, match="device"):
        pick_device(name)


def test_the_peak_of_the_process_holds_what_it_allocated() -> None:
    kept = torch.ones(1 << 25)
    assert peak_memory(torch.device("cpu")) > kept.nbytes


def test_nothing_needs_the_module_that_windows_lacks() -> None:
    code = (
        "import sys; sys.modules['resource'] = None\n"
        "import torch, clipig.jobs.bench, clipig.jobs.estimate\n"
        "from clipig.engine.device import peak_memory\n"
        "assert peak_memory(torch.device('cpu')) == 0\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
