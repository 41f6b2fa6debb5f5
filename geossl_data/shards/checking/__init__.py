"""What `verify` looks at, one module each: the manifest's rows, the bytes of a tar, provenance, pixels, other files."""
