"""`clipig doctor`: checks the installation, devices and models."""

from __future__ import annotations

import click

from clipig.cli.options import offline_option


@click.command(short_help="Check the installation: versions, device, models, one step.")
@offline_option
@click.option("--model", metavar="NAME",
              help="Check this model only: load it, let it name drawn images, time a step.")
def command(model: str | None) -> None:
    """Print versions, devices and models, and make one step on each device."""
    if model is not None:
        _check_model(model)
        return
    import platform
    import time
    from importlib.metadata import PackageNotFoundError, version

    import torch

    from clipig import __version__
    from clipig.encoders.discovery import discover
    from clipig.encoders.precision import pick_precision
    from clipig.session import Session
    from clipig.web import cache_dir

    click.echo(f"clipig {__version__}, Python {platform.python_version()}, {platform.platform()}")
    for name in ("torch", "torchvision", "clip-anytorch", "open_clip_torch", "huggingface_hub",
                 "tokenizers", "ray", "pillow"):
        try:
            click.echo(f"  {name} {version(name)}")
        except PackageNotFoundError:
            click.echo(f"  {name} is not installed")
    click.echo(f"cache: {cache_dir()}")
    click.echo("models here: embedded, embedded-judge")
    for found in discover():
        click.echo(f"  {found.name}: {found.summary()}")
    devices = ["cpu"] + ["cuda"] * torch.cuda.is_available()
    devices += ["mps"] * torch.backends.mps.is_available()
    for device in devices:
        from clipig.config.parts import Feature, Target
        from clipig.config.schema import Experiment
        from clipig.ops.base import constant

        target = Target(features=[Feature(text="a red heart")])
        experiment = Experiment(
            epochs=constant(3, integer=True), seed=0, targets=[target], device=device,
        )
        begun = time.monotonic()
        result = Session(model="embedded").run(experiment)
        seconds = time.monotonic() - begun
        fine = bool(torch.isfinite(result.images).all())
        state = "works" if fine else "gives wrong numbers"
        click.echo(
            f"{device}: {state}, precision {pick_precision(device)}, "
            f"three steps with the embedded model in {seconds:.1f} s"
        )


def _check_model(name: str) -> None:
    """Load a model, let it classify drawn images, and time a step."""
    import time

    import torch

    from clipig.encoders import load, resolve
    from clipig.encoders.activation import name_samples

    info = resolve(name)
    click.echo(f"{info.name}: input {info.size} px, embedding {info.width}; {info.reason}")
    encoder = load(info)
    info = encoder.info
    click.echo(f"activation {info.activation or 'its own'}, {info.checksum or 'no checksum'}")
    naming = name_samples(encoder)
    click.echo(
        f"names {naming.right} of {naming.count} drawn images "
        f"(log-likelihood {naming.likelihood:.2f}, chance {naming.chance:.2f})"
    )
    views = torch.rand(1, 3, info.size, info.size, requires_grad=True)
    goal = encoder.encode_text(["a red circle"])
    begun = time.monotonic()
    (encoder.encode_image(views) * goal).sum().backward()
    seconds = time.monotonic() - begun
    fine = views.grad is not None and bool(torch.isfinite(views.grad).all())
    state = "gradients are finite" if fine else "gradients are NaN or infinite"
    click.echo(f"{state}; one view forth and back takes {1000 * seconds:.0f} ms in fp32")
