"""Checkpoints: written, read, exported, and the authors' published weights as one of them."""
