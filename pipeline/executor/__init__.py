"""Who does the work of a shard: decode workers and teacher processes on this machine, or a Ray cluster."""
