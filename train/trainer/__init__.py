"""One training run: the trainer, its state, the loop, the losses (Equation 3), validation and the log."""
