"""Stage one on a Ray cluster: the driver starts a task for each shard, which has its videos decoded by tasks and their

clips labelled by teacher actors, and writes the shard. Ray is imported here alone, when executor=ray asks for it."""
