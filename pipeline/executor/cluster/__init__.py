"""Stage one on a Ray cluster: driver --> task of a shard --> decode tasks --> teacher actors --> the same shard task.

Ray is imported here alone, when executor=ray asks for it."""
