"""The tars that reading needs: open in a bounded pool, and fetched from behind a URL into a bounded cache."""
