"""Rasters of one's own, listed in a table → samples with their splits, and what a shard stores of them."""
