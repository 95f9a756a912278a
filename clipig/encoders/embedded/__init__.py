"""The small CLIP that clipig trains and ships, and its judge."""

from clipig.encoders.embedded.encoder import (
    EmbeddedEncoder,
    embedded_info,
    embedded_names,
    encoder_from_bytes,
    file_info,
    load_embedded,
    load_file,
)

__all__ = [
    "EmbeddedEncoder",
    "embedded_info",
    "embedded_names",
    "encoder_from_bytes",
    "file_info",
    "load_embedded",
    "load_file",
]
