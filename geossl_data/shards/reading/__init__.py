"""Shards → arrays: found by byte range, decoded straight into batches. No torch, no raster library."""
