"""clipig: pictures from noise, with CLIP as the critic."""

__version__ = "0.1.0"
