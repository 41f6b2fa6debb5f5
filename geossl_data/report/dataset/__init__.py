"""What a page tells of a dataset folder, a module a topic: each takes what the folder holds and answers sections."""
