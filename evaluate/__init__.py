"""Evaluation and use of a checkpoint: published benchmarks, the paper's tables and figures, tags, features.

Run as `python -m evaluate`, and `.supervised`, `.supervised.finetune`, `.reproduce`, `.inference.tag`, `.inference.embed`."""
