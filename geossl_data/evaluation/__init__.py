"""What an encoder and a dataset are worth."""
