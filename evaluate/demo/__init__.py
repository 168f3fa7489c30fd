"""The main job end to end, on a small synthetic corpus."""
