"""Features of any sounds: one layer of a network, for files, folders or lists, as arrays to go on with.

Run as `python -m evaluate.inference.embed FILE... layer=pool5 checkpoint=... out=features.npz`.
"""
