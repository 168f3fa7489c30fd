"""A page that listens: names of a file or of the microphone's sound as they come (`make listen`)."""
