"""Networks that learn from a benchmark's labels: from scratch, or fine-tuned from a checkpoint."""
