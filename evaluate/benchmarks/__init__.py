"""Benchmarks as data: DCASE, ESC-50, ESC-10 or a folder per class, each recording with its class and fold."""
