"""`clipig bench`: measures the speed of this machine relative to the encoder alone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from clipig.cli.options import Bytes, engine_options

if TYPE_CHECKING:
    from clipig.jobs.bench import Report


@click.command(short_help="Measure the speed on this machine.")
@click.argument("configs", nargs=-1, metavar="[CONFIG]...")
@click.option("--seconds", type=click.FloatRange(1), default=30.0, show_default=True,
              help="About how long to measure.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
@click.option("--max-memory", type=Bytes(), metavar="SIZE", help="Use no more than, e.g., 6G.")
@engine_options
def command(
    configs: tuple[str, ...], seconds: float, as_json: bool,
    max_memory: int | None, model: str | None, device: str | None, precision: str | None,
    **others: object,
) -> None:
    """Measure the steps of CONFIG (default: penguin_piano) against their floor.

    The floor is the encoder alone, forward and backward to the pixels, for the
    views of a step; both are measured in turn, in one run.

    \b
    clipig bench
    clipig bench method_1 --model ViT-B/32 --precision bf16 --json
    """
    from dataclasses import asdict

    from clipig.config.load import load
    from clipig.jobs.bench import measure
    from clipig.session import Session

    session = Session(model, device, precision)
    experiment = session.settle(load(*(configs or ("penguin_piano",))))[0]
    encoders = session.encoders(experiment)
    report = measure(
        experiment, encoders, seconds, limit=max_memory, cache=session.prompts,
    )
    if as_json:
        click.echo(json.dumps(asdict(report)))
        return
    for line in table(report):
        click.echo(line)


def table(report: Report) -> list[str]:
    """Format the report as lines of text."""
    one = report.one
    peak = f"{report.peak / 1e9:,.0f} GFLOP/s"
    share = f"{report.share:.0%} of {peak}" if report.share else f"unknown (peak {peak})"
    height, width = report.size
    lines = [
        f"{report.model}, {report.precision}, {report.device}, {report.threads} threads, "
        f"{report.versions}",
        f"canvas {width}x{height}, {one.views} views per step, {report.epochs} steps",
        "",
        f"  floor (encoder alone)   {one.floor * 1e3:10.1f} ms",
        f"  engine step             {one.step * 1e3:10.1f} ms",
        f"  step / floor            {one.ratio:10.2f}    median of {one.rounds} pairs",
        f"  views/s                 {one.views_per_second:10.1f}",
        f"  first step              {report.first_step:10.2f} s",
        f"  FLOP/s of the peak      {share:>10}",
        f"  memory, peak            {report.memory / 2**20:10,.0f} MiB",
        f"  memory, encoder         {report.view_memory / 2**20:10.1f} MiB per view",
        "",
        f"  {'runs':>6} {'at a time':>10} {'step':>10} {'per picture':>12} {'all':>10} "
        f"{'views/s':>9}",
    ]
    lines += [
        f"  {r.runs:>6} {r.group:>10} {r.step * 1e3:>7.1f} ms {_duration(r.picture):>12} "
        f"{_duration(r.total):>10} {r.views_per_second:>9.1f}"
        for r in report.rows
    ]
    return lines


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
