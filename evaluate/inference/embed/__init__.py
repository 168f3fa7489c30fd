"""Features of any sounds: one layer of a network as arrays to go on with (`python -m evaluate.inference.embed`)."""
