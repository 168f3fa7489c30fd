"""A checkpoint at work on any sounds: features, posteriors, tags."""
