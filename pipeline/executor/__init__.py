"""Who does the work of a shard: decode workers and a teacher on this machine, or a Ray cluster."""
