"""Estimates time and disk space of many runs of a recipe, including their rating."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from clipig.config.parts import Init
from clipig.config.schema import Experiment
from clipig.jobs.batches import Scoring
from clipig.jobs.estimate import estimate
from clipig.jobs.fresh_views import fresh_similarity
from clipig.session import Session


@dataclass(frozen=True)
class Pace:
    """Cost of one run: seconds of optimization and of rating, and maximum bytes of its PNG."""

    optimising: float
    rating: float
    bytes: int

    @property
    def seconds(self) -> float:
        """Total seconds of a run."""
        return self.optimising + self.rating


def measure(session: Session, experiments: Sequence[Experiment], scoring: Scoring) -> Pace:
    """Measure the cost per run from a few steps of each phase, without loading weights.

    Args:
        session: Loads the encoders.
        experiments: Settled runs of one recipe, as many as a batch has.
        scoring: How the results will be rated.

    Raises:
        ConfigError: The recipe cannot run.
    """
    runs = [e.model_copy(update={"init": Init()}) for e in experiments]
    group = session.plan(runs)[0]
    session.encoders(runs[0])
    optimising = estimate(session, group).seconds / len(group.rows)
    recipe = runs if scoring.recipe is None else [
        scoring.recipe.model_copy(update={"seed": e.seed}) for e in runs
    ]
    height, width = group.plan.phases[-1].size
    pictures = torch.full((len(runs), 3, height, width), 0.5)
    rating = 0.0
    for model in (None, scoring.judge) if scoring.judge else (None,):
        fresh_similarity(session, recipe[:1], pictures[:1], 1, model)  # loads the judge
        began = time.perf_counter()
        fresh_similarity(session, recipe, pictures, scoring.views, model)
        rating += (time.perf_counter() - began) / len(runs)
    return Pace(optimising, rating, height * width * 3)


def duration(seconds: float) -> str:
    """Format a duration: `45 s`, `12 min`, `3 h 20 min`, `2 days 5 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02d} min"
    days, hours = divmod(hours, 24)
    return f"{days} days {hours} h"


def size(count: float) -> str:
    """Format a number of bytes: `850 kB`, `12 MB`, `1.5 GB`."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            value = count / factor
            return f"{value:.1f} {unit}" if value < 10 else f"{value:.0f} {unit}"
    return f"{count:.0f} B"
