"""Shards → batches → a trained encoder. Needs torch, and none of the geographic packages."""
