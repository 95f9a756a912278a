"""A session loads what a plan needs beside itself."""

from __future__ import annotations

import torch

from clipig.config.load import load_text
from clipig.session import Session, starts


def test_a_tensor_at_the_start_is_cropped_to_the_aspect_and_keeps_its_values() -> None:
    rows = [[-0.5, 0.25, 1.5, 0.0], [0.0, 2.0, 3.0, 1.0]]
    experiment = load_text(f"""
model: embedded
epochs: 1
resolution: 2
init: {{mean: .9, std: .3, image_tensor: {[rows, rows, rows]}}}
""")
    session = Session()
    start = starts(session.plan(session.settle(experiment))[0].plan)
    assert start is not None
    assert torch.equal(start, torch.tensor(rows)[:, 1:3].expand(1, 3, 2, 2))
