"""Parts of `benchmarks/pretrain.py`."""
