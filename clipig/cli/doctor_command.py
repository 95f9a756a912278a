"""`clipig doctor`: does everything that is needed work here?"""

from __future__ import annotations

import click


@click.command(short_help="Check the installation: versions, device, models, one step.")
def command() -> None:
    """Print versions, devices and models, and make one step on each device."""
    import platform
    import time
    from importlib.metadata import PackageNotFoundError, version

    import torch

    from clipig import __version__
    from clipig.encoders import model_names
    from clipig.encoders.precision import pick_precision
    from clipig.encoders.weights import find_weights
    from clipig.session import Session
    from clipig.web import cache_dir

    click.echo(f"clipig {__version__}, Python {platform.python_version()}, {platform.platform()}")
    for name in ("torch", "torchvision", "clip-anytorch", "open_clip_torch", "ray", "pillow"):
        try:
            click.echo(f"  {name} {version(name)}")
        except PackageNotFoundError:
            click.echo(f"  {name} is not installed")
    click.echo(f"cache: {cache_dir()}")
    here = [n for n in model_names() if "/" in n or n.startswith("RN")]
    found = [n for n in here if find_weights(n) is not None]
    click.echo(f"weights here: embedded{''.join(', ' + n for n in found)}")
    devices = ["cpu"] + ["cuda"] * torch.cuda.is_available()
    devices += ["mps"] * torch.backends.mps.is_available()
    for device in devices:
        from clipig.config.schema import Experiment, Feature, Target
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
