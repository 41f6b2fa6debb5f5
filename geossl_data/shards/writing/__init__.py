"""Samples → shards: planned first, then written whole or not at all."""
