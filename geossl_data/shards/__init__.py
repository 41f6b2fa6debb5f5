"""Tiles ↔ WebDataset shards: written once and whole, listed in a manifest, read back fast."""
