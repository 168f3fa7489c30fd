"""Evaluation and use: a checkpoint on published benchmarks, the paper's tables and figures, tags, features.

Run as `python -m evaluate`, and `.supervised`, `.finetune`, `.reproduce`, `.tag` and `.embed` of it.
"""
