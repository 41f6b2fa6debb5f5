"""What `benchmarks/reading.py` is made of: scenes, windows, server, methods, tables."""
