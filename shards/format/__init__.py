"""The contract between the stages: what a clip, a tar member, a shard, its side file and the manifest are."""
