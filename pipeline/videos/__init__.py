"""Which videos there are, under which keys, and in which shard each is."""
