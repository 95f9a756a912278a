"""Trains the embedded CLIP: from published icon sets to the weights in the package."""
