"""Stage one on a Ray cluster: a task for each shard, a task for each video, and teachers that stay.

    driver --> shard task --> decode tasks --> teacher actors --> the same shard task, which writes the shard

Ray is imported here alone, and only when executor=ray asks for it.
"""
