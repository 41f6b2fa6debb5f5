"""Samples → tiles: windows of remote rasters on a place's grid, in physical units."""
