"""What each stage costs, in CPU seconds, beside its peers: one module a benchmark, run as `make bench-*`."""
