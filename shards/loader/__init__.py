"""Reading shards for training: in which order, in which batches, from which disk."""
