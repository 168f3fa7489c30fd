"""The reader of stage one beside its peers, in CPU time: `python -m pipeline.bench videos=/my/videos rounds=3`."""
