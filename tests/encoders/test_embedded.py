"""The embedded CLIP: loading, the encoder protocol, words it does not know."""

from __future__ import annotations

import hashlib
import time
import warnings
from importlib import resources
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from clipig import encoders
from clipig.encoders.embedded import (
    EmbeddedEncoder,
    embedded_info,
    embedded_names,
    encoder_from_bytes,
    file_info,
    load_embedded,
)
from clipig.encoders.embedded.vocabulary import Vocabulary, split_words
from clipig.encoders.protocol import Encoder
from clipig.errors import EncoderError

NAMES = embedded_names()
LIMITS = {"embedded": 12e6, "embedded-judge": 6e6}
PACKAGE = resources.files("clipig.encoders.embedded")


@pytest.fixture(scope="module", params=NAMES)
def encoder(request: pytest.FixtureRequest) -> EmbeddedEncoder:
    return load_embedded(request.param)


def test_there_are_models() -> None:
    assert "embedded" in NAMES


@pytest.mark.parametrize("name", NAMES)
def test_file_fits_its_entry(name: str) -> None:
    data = PACKAGE.joinpath(f"{name}.safetensors").read_bytes()
    assert embedded_info(name).checksum == "sha256:" + hashlib.sha256(data).hexdigest()
    assert len(data) <= LIMITS[name]


@pytest.mark.parametrize("name", NAMES)
def test_loads_fast(name: str) -> None:
    load_embedded(name)
    began = time.process_time()
    load_embedded(name)
    assert time.process_time() - began < 1.0


def test_speaks_the_protocol(encoder: EmbeddedEncoder) -> None:
    assert isinstance(encoder, Encoder)
    info = encoder.info
    assert info == embedded_info(info.name)
    assert encoder.dtype == torch.float32
    found = encoder.encode_image(torch.rand(3, 3, info.size, info.size))
    texts = encoder.encode_text(["a cat", "a cat made of pizza"])
    for rows, count in ((found, 3), (texts, 2)):
        assert rows.shape == (count, info.width)
        assert rows.dtype == torch.float32
        torch.testing.assert_close(rows.norm(dim=1), torch.ones(count))
    assert not texts.requires_grad


def test_gradient_reaches_the_picture_only(encoder: EmbeddedEncoder) -> None:
    size = encoder.info.size
    views = torch.rand(2, 3, size, size, requires_grad=True)
    encoder.encode_image(views)[:, 0].sum().backward()
    assert views.grad is not None
    assert views.grad.abs().sum() > 0
    parameters = [*encoder._image.parameters(), *encoder._text.parameters()]
    assert parameters
    assert not any(p.requires_grad for p in parameters)


def test_pictures_do_not_see_each_other(encoder: EmbeddedEncoder) -> None:
    size = encoder.info.size
    views = torch.rand(5, 3, size, size)
    together = encoder.encode_image(views)
    alone = torch.cat([encoder.encode_image(view[None]) for view in views])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    assert encoder.encode_image(views[:0]).shape == (0, encoder.info.width)


def test_texts_do_not_see_each_other(encoder: EmbeddedEncoder) -> None:
    texts = ["a cat", "a penguin made of piano. a penguin with the texture of a piano."]
    together = encoder.encode_text(texts)
    alone = torch.cat([encoder.encode_text([text]) for text in texts])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    assert encoder.encode_text([]).shape == (0, encoder.info.width)


@pytest.mark.parametrize("name", NAMES)
def test_bf16_agrees(name: str) -> None:
    exact, fast = load_embedded(name), load_embedded(name, precision="bf16")
    assert fast.dtype == torch.bfloat16
    views = torch.rand(4, 3, exact.info.size, exact.info.size)
    found = fast.encode_image(views)
    assert found.dtype == torch.float32
    assert ((found * exact.encode_image(views)).sum(1) > 0.99).all()


def test_composition_is_more_than_its_words(encoder: EmbeddedEncoder) -> None:
    one, other = encoder.encode_text(["a penguin made of piano", "a piano made of penguins"])
    assert one @ other < 0.95


def test_features_are_differentiable_maps(encoder: EmbeddedEncoder) -> None:
    size = encoder.info.size
    views = torch.rand(2, 3, size, size, requires_grad=True)
    maps = encoder.features(views)
    assert maps
    assert all(m.ndim == 4 and len(m) == 2 and m.dtype == torch.float32 for m in maps)
    maps[0].square().mean().backward()
    assert views.grad is not None
    embedded, same = encoder.encode_with_features(views)
    assert torch.equal(embedded, encoder.encode_image(views))
    assert all(torch.equal(a, b) for a, b in zip(same, maps, strict=True))


def test_unknown_words_are_named_once(encoder: EmbeddedEncoder) -> None:
    with pytest.warns(UserWarning, match="does not know") as caught:
        encoder.encode_text(["a pengin made of qwzx", "a pengin"])
    (message,) = [str(w.message) for w in caught]
    assert "pengin (nearest: penguin" in message
    assert "qwzx" in message
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder.encode_text(["a pengin", "a cat made of pizza"])


@pytest.mark.parametrize("text", ["", "  ", "?!"])
def test_empty_text_is_an_error(encoder: EmbeddedEncoder, text: str) -> None:
    with pytest.raises(EncoderError, match="no words"):
        encoder.encode_text(["a cat", text])


def test_long_text_is_an_error(encoder: EmbeddedEncoder) -> None:
    limit = encoder.info.context
    assert limit is not None
    encoder.encode_text(["cat " * limit])
    with pytest.raises(EncoderError, match=f"3 more than the {limit}"):
        encoder.encode_text(["cat " * (limit + 3)])


def test_wrong_size_is_an_error(encoder: EmbeddedEncoder) -> None:
    with pytest.raises(EncoderError, match="expected views"):
        encoder.encode_image(torch.rand(1, 3, 10, 10))


def test_unknown_names_are_errors() -> None:
    with pytest.raises(EncoderError, match="embedded"):
        load_embedded("embeded")
    with pytest.raises(EncoderError, match="fp32"):
        load_embedded(precision="fp8")


def test_damaged_weights_are_an_error() -> None:
    data = PACKAGE.joinpath("embedded.safetensors").read_bytes()
    for broken in (data[:1000], b"", data[: len(data) // 2]):
        with pytest.raises(EncoderError, match="damaged"):
            encoder_from_bytes(broken, embedded_info())


def test_weights_file_is_a_model(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    path.write_bytes(PACKAGE.joinpath("embedded-judge.safetensors").read_bytes())
    info = encoders.resolve(str(path))
    packed = embedded_info("embedded-judge")
    assert (info.name, info.size, info.width) == (str(path), packed.size, packed.width)
    assert info.checksum == packed.checksum
    views = torch.rand(2, 3, 64, 64)
    mine = encoders.load(info, precision="fp32")
    torch.testing.assert_close(
        mine.encode_image(views), load_embedded("embedded-judge").encode_image(views)
    )


def test_weights_file_that_changed_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    path.write_bytes(PACKAGE.joinpath("embedded-judge.safetensors").read_bytes())
    info = encoders.resolve(str(path))
    path.write_bytes(PACKAGE.joinpath("embedded.safetensors").read_bytes())
    with pytest.raises(EncoderError, match="has changed"):
        encoders.load(info)


@pytest.mark.parametrize("config", [
    '{"text_depth": 1000000000}', '{"depths": [0, 1, 1, 100000]}', '{"channels": [-1]}',
    '{"stem": [5, 0]}', '{"size": 0}', pytest.param("[" * 100_000, id="deep"), '{"size": "big"}',
    '{"activation": "eval"}', '{"layers": 3}', "[]", "{",
])
def test_hostile_weights_file_is_an_error(tmp_path: Path, config: str) -> None:
    path = tmp_path / "bad.safetensors"
    save_file({"x": torch.zeros(1)}, path, {"config": config, "vocabulary": "cat dog"})
    with pytest.raises(EncoderError, match="damaged"):
        encoders.resolve(str(path))


def test_other_safetensors_are_another_kind(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"x": torch.zeros(1)}, path, {"format": "pt"})
    assert file_info(str(path)) is None
    deep = b"[" * 100_000
    for data in (b"\xff" * 100, len(deep).to_bytes(8, "little") + deep):
        path.write_bytes(data)
        assert file_info(str(path)) is None
    assert file_info(str(path)) is None
    with pytest.raises(EncoderError):
        encoders.resolve(str(path))


def test_gap_is_a_direction(encoder: EmbeddedEncoder) -> None:
    assert encoder.gap is not None
    assert encoder.gap.shape == (encoder.info.width,)
    assert encoder.gap.isfinite().all()


def test_words_are_split() -> None:
    assert split_words("A Rubik’s cube, made-of 2 piñatas!") == [
        *("a", "rubiks", "cube", "made", "of", "2", "pinatas")
    ]


def test_vocabulary_pads_and_cuts() -> None:
    vocabulary = Vocabulary(["cat", "dog"], buckets=50, groups=4, context=3)
    words, letters = vocabulary.encode(["cat", "dog cow cat dog"])
    assert words.tolist() == [[2, 0, 0], [3, 1, 2]]
    assert letters.shape == (2, 3, 4)
    assert (letters[0, 1:] == 0).all()
    assert letters.max() <= 50


def test_a_text_of_too_many_words_is_cut_on_request(encoder: EmbeddedEncoder) -> None:
    words = " ".join(["red"] * 30)
    cut = encoder.encode_text([words], truncate=True)
    assert torch.equal(cut, encoder.encode_text([" ".join(["red"] * 24)]))
