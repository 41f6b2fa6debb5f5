"""The `geossl` command."""
