"""Another teacher set for shards that are there: `python -m pipeline.relabel`."""
