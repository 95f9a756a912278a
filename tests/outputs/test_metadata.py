"""What a picture's file says of the images that its config reads, and how far it is believed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch

from clipig.config.load import load_text
from clipig.images import read_metadata, save_png
from clipig.outputs.metadata import image_names, input_image, metadata, read_input_images
from tests.support.program import SMALL, program


def test_all_images_of_a_config_are_named_with_path_and_checksum(tmp_path: Path) -> None:
    there = save_png(torch.zeros(3, 4, 4), tmp_path / "a.png")
    experiment = load_text(f"""
init: {{image: {there}}}
mask: {tmp_path}/mask.png
targets:
  - features: [{{image: 'https://example.org/p.png'}}, {{text: a cat, image: unused.png}}]
    constraints: [{{style: {{image: {there}}}}}]
""")
    assert image_names(experiment) == [
        str(there), f"{tmp_path}/mask.png", "https://example.org/p.png"
    ]
    images = read_input_images(metadata(experiment, (), 1.0, "1 of 1")["clipig images"])
    assert [i.name for i in images] == image_names(experiment)
    assert images[0].sha256 == hashlib.sha256(there.read_bytes()).hexdigest()
    assert images[1].sha256 == images[2].sha256 == ""


def test_the_path_of_an_image_is_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert input_image("in/a.png").path == str(tmp_path / "in/a.png")


@pytest.mark.parametrize("text", ["", "x", "7", "[7]", '[{"name": 1}]', "[" * 10000, '{"a": 1}',
                                  '[{"name": 1, "path": "", "sha256": ""}]'])
def test_damaged_metadata_name_no_images(text: str) -> None:
    assert read_input_images(text) == []


def test_half_of_a_surrogate_pair_is_escaped_in_metadata(tmp_path: Path) -> None:
    path = save_png(torch.zeros(3, 4, 4), tmp_path / "a.png", {"Comment": "a \ud83d cat é"})
    assert read_metadata(path)["Comment"] == "a \\ud83d cat é"


@pytest.mark.parametrize(("config", "named"), [
    ("model: /dev/zero", "/dev/zero"),
    ("model: [embedded, open_clip:ViT-B-32//dev/zero]", "open_clip"),
    ("mask: http://localhost:9/a.png", "http://localhost:9/a.png"),
    ("init: {image: /etc/hostname}", "/etc/hostname"),
])
def test_what_only_metadata_name_is_not_opened(tmp_path: Path, config: str, named: str) -> None:
    texts = {"clipig config": f"epochs: 1\n{config}\n"}
    save_png(torch.zeros(3, 4, 4), tmp_path / "a.png", texts)
    done = program("reproduce", "a.png", cwd=tmp_path)
    assert done.returncode == 2
    assert named in done.stderr.decode()
    assert "--allow" in done.stderr.decode()
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_a_missing_image_is_named_with_what_it_was(tmp_path: Path) -> None:
    stored = [{"name": "in.png", "path": "/home/x/in.png", "sha256": "ab" * 32}]
    texts = {"clipig config": f"{SMALL}mask: in.png\n", "clipig images": json.dumps(stored)}
    save_png(torch.zeros(3, 4, 4), tmp_path / "a.png", texts)
    done = program("reproduce", "a.png", "--allow", cwd=tmp_path)
    assert done.returncode == 2
    assert "needs the image in.png" in done.stderr.decode()
    assert "it was /home/x/in.png, sha256 abababababab" in done.stderr.decode()
