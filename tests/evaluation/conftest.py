"""The toy planet and the tiny encoders for the probe tests."""

from pretrain.fixtures import all_tiny_encoders, one_thread, toy

__all__ = ["all_tiny_encoders", "one_thread", "toy"]
