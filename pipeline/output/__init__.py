"""Where shards go: the folder or URL, the ranks at work there, their common plan, and the account of all inputs."""
