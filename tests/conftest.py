"""Options and fixtures of the whole suite."""

from __future__ import annotations

import os

# Tests run in as many processes as there are cores; threads of one would wait for another's.
# Read by OpenMP when torch is imported, and by the programs that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

from tests.support.ranking import session as session  # a fixture of many tests


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", help="device of the contract tests, e.g. cuda")


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> torch.device:
    """The device named on the command line; tests that need it are skipped without it."""
    wanted = torch.device(request.config.getoption("--device"))
    if wanted.type == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    return wanted
