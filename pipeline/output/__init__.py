"""Where shards go: the folder or URL, its agreement with earlier runs, and the account of what became of each input."""
