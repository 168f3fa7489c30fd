"""How benchmarks lie on disk: a function each, from a folder to its recordings with class, fold and group."""
