"""Measures the quality of images by values that did not guide them.

The similarity of the guiding encoder is no measure of quality: it rates adversarial noise
higher than any photograph. A held-out encoder (the judge) does not, and statistics of
spectrum, variation, colours and edges need no encoder at all.

    rows = score(pictures, texts, judge, candidates)
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from clipig.encoders.protocol import Encoder
from clipig.ops.kernels.resizing import resize

SIDE = 128
"""Side to which images are resized for statistics, so that different sizes compare."""
_BATCH = 256


@dataclass(frozen=True)
class QualityRow:
    """Quality measures of one image.

    similarity   100 * cosine of image and text, by the judge
    rank         rank of the text among all candidates, 1 is best
    of           number of candidates
    reciprocal   1 / rank
    nearest      the candidate that is most similar for the judge
    slope        slope of log amplitude over log frequency: near -1 for photographs,
                 0 for white noise, below -2 for blurred images
    variation    mean absolute difference of neighbouring pixels
    saturation   mean absolute distance of the channels from their mean
    sharpness    root mean square of the Laplacian of the brightness
    """

    text: str
    similarity: float
    rank: int
    of: int
    reciprocal: float
    nearest: str
    slope: float
    variation: float
    saturation: float
    sharpness: float

    def as_dict(self) -> dict[str, object]:
        """All values by name, for a CSV or JSON file."""
        return asdict(self)


def score(
    pictures: Sequence[Tensor] | Tensor, texts: Sequence[str], judge: Encoder,
    candidates: Sequence[str] = (),
) -> list[QualityRow]:
    """Measure images by the text from which each was made.

    Args:
        pictures: One `[3, H, W]` in 0..1 per text, of any sizes.
        texts: The true text of each image.
        judge: An encoder that did not guide the images.
        candidates: Texts among which the true text is ranked, besides `texts`.

    Raises:
        ValueError: The numbers of images and texts differ.
        EncoderError: The judge cannot encode a text.
    """
    if len(pictures) != len(texts):
        raise ValueError(f"{len(pictures)} pictures, {len(texts)} texts")
    if not len(pictures):
        return []
    names = list(dict.fromkeys([*texts, *candidates]))
    place = {name: i for i, name in enumerate(names)}
    table = similarities(pictures, names, judge)
    measured = [statistics(p[None].to(judge.device)) for p in pictures]
    rows = []
    for line, text, numbers in zip(table, texts, measured, strict=True):
        own = float(line[place[text]])
        rank = 1 + int((line > own).sum())
        rows.append(QualityRow(
            text, own, rank, len(names), 1 / rank, names[int(line.argmax())],
            **{key: float(value[0]) for key, value in numbers.items()},
        ))
    return rows


def similarities(
    pictures: Sequence[Tensor] | Tensor, texts: Sequence[str], judge: Encoder
) -> Tensor:
    """100 * cosine of B images and P texts, `[B, P]` on the CPU.

    Images are resized to the judge's input size without keeping the aspect ratio, as in
    the run that made them.
    """
    side = judge.info.size
    rows = []
    with torch.no_grad():
        for i in range(0, len(pictures), _BATCH):
            part = [
                resize(p[None].to(judge.device, torch.float32), (side, side))
                for p in pictures[i : i + _BATCH]
            ]
            rows.append(judge.encode_image(torch.cat(part).clamp(0, 1)))
        columns = [
            judge.encode_text(texts[i : i + _BATCH]) for i in range(0, len(texts), _BATCH)
        ]
        return (100 * torch.cat(rows) @ torch.cat(columns).T).float().cpu()


def statistics(pictures: Tensor) -> dict[str, Tensor]:
    """Compute all statistics of images `[B, 3, H, W]` in 0..1, each `[B]`; see `QualityRow`."""
    fitted = resize(pictures.float(), (SIDE, SIDE)).clamp(0, 1)
    return {
        "slope": spectrum_slope(fitted),
        "variation": total_variation(fitted),
        "saturation": saturation(fitted),
        "sharpness": sharpness(fitted),
    }


def brightness(pictures: Tensor) -> Tensor:
    """Luma of Rec. 601: `[B, 3, H, W]` to `[B, H, W]`."""
    weights = pictures.new_tensor([0.299, 0.587, 0.114])
    return torch.einsum("c,bchw->bhw", weights, pictures)


def spectrum_slope(pictures: Tensor) -> Tensor:
    """Exponent a of the amplitude spectrum f^a of the brightness, `[B]`.

    The image minus its mean is multiplied by a Hann window, squared amplitudes are averaged
    over rings of equal frequency, and a line is fitted to their logarithms, from 4 waves
    per image to half the maximum frequency, with equal weight per octave.
    """
    light = brightness(pictures)
    height, width = light.shape[-2:]
    light = light - light.mean((1, 2), keepdim=True)
    window = (
        torch.hann_window(height, periodic=True, device=light.device)[:, None]
        * torch.hann_window(width, periodic=True, device=light.device)
    )
    power = torch.fft.fft2(light * window).abs().square()
    y = torch.fft.fftfreq(height, device=light.device)[:, None] * height
    x = torch.fft.fftfreq(width, device=light.device)[None] * width
    ring = (y.square() + x.square()).sqrt()
    octaves = math.log2(max(min(height, width) / 4, 8)) - 2
    edges = [2.0 ** (2 + i / 2) for i in range(int(2 * octaves + 1.001))]
    points, heights = [], []
    for low, high in itertools.pairwise(edges):
        inside = ((ring >= low) & (ring < high)).float()
        points.append(math.log(low * high) / 2)
        heights.append((power * inside).sum((1, 2)) / inside.sum())
    level = torch.stack(heights, 1).clamp(min=1e-20).log() / 2
    place = torch.tensor(points, device=level.device)
    place = place - place.mean()
    return (level * place).sum(1) / place.square().sum()


def total_variation(pictures: Tensor) -> Tensor:
    """Mean absolute difference of right and lower neighbours, `[B]`."""
    right = pictures.diff(dim=-1).abs().mean((1, 2, 3))
    down = pictures.diff(dim=-2).abs().mean((1, 2, 3))
    return (right + down) / 2


def saturation(pictures: Tensor) -> Tensor:
    """Mean absolute distance of the channels from their mean, `[B]`."""
    return (pictures - pictures.mean(1, keepdim=True)).abs().mean((1, 2, 3))


def sharpness(pictures: Tensor) -> Tensor:
    """Root mean square of the Laplacian of the brightness, `[B]`."""
    light = brightness(pictures)
    middle = light[:, 1:-1, 1:-1]
    around = light[:, :-2, 1:-1] + light[:, 2:, 1:-1] + light[:, 1:-1, :-2] + light[:, 1:-1, 2:]
    return (around - 4 * middle).square().mean((1, 2)).sqrt()


def interval(
    values: Sequence[float], confidence: float = 0.95, rounds: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """Mean, lower and upper limit of its bootstrap interval (percentiles of resampled means)."""
    data = torch.tensor(list(values), dtype=torch.float64)
    if not len(data):
        return math.nan, math.nan, math.nan
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randint(len(data), (rounds, len(data)), generator=generator)
    means = data[draws].mean(1)
    tail = (1 - confidence) / 2
    low, high = means.quantile(torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return float(data.mean()), low, high
