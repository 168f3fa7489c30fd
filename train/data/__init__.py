"""Batches on the device, out of shards: which rows, augmented how."""
