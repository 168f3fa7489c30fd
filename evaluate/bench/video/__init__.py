"""Benchmarks of reading videos: beside other readers, sampling, colour."""
