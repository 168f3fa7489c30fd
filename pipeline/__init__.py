"""Stage one: vision teachers look once at the frames of every video; shards keep what they saw beside the sound.

Run as `python -m pipeline`; `python -m pipeline.relabel` adds another teacher set.
"""
