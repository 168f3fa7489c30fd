"""The vision networks: which they are, what their weights and classes are, and their posteriors of frames."""
