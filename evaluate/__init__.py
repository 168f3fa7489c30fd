"""Evaluation: a checkpoint's features on published benchmarks, the paper's tables and figures.

Run as `python -m evaluate`, `python -m evaluate.supervised` and `python -m evaluate.reproduce`.
"""
