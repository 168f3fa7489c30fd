"""Adding another teacher set to shards that exist: `python -m pipeline.relabel shards=... videos=... teachers=...`."""
