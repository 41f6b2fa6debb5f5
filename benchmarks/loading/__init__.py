"""What `benchmarks/loading.py` is made of."""
