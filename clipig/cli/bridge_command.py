"""`clipig bridge`: computes the statistics that `bridge_by` needs, for any encoder."""

from __future__ import annotations

import click

from clipig.cli.options import offline_option


@click.command(short_help="Fit the bridge of a model to images and captions.")
@click.argument("pairs", metavar="PAIRS")
@click.option("-m", "--model", default="auto", show_default=True, metavar="NAME", help="Encoder.")
@offline_option
@click.option("-d", "--device", default="auto", show_default=True, metavar="NAME",
              help="auto, cpu, cuda, cuda:N or mps.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
def command(pairs: str, model: str, device: str, quiet: bool) -> None:
    """Measure where a model puts images and their captions, for `bridge` in a config.

    PAIRS is a text file, on each line an image, a tab and its caption. A few hundred
    pairs do; as many as the embedding is wide determine a rotation.

    \b
    clipig bridge captions.tsv --model ViT-B/32
    """
    from clipig.cli.meter import Meter
    from clipig.cli.rate_command import open_encoders, report_problems
    from clipig.encoders.bridges import save_bridge
    from clipig.jobs.bridging import measure_bridge, read_pairs
    from clipig.jobs.picture_features import FeatureCache

    known = read_pairs(pairs)
    meter = Meter(quiet, "picture")
    encoder = open_encoders([model], device, meter)[0]
    meter.tell("looking", len({name for name, _ in known}))
    bridge, problems = measure_bridge(encoder, known, FeatureCache(), meter.tick)
    meter.close()
    report_problems(problems)
    path = save_bridge(encoder.info, bridge, len(known))
    if not quiet:
        click.echo(f"{encoder.info.name}: {path}")
