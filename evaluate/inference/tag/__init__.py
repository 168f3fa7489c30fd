"""Tags: what is in a sound, as the names of a student's heads over time (`python -m evaluate.inference.tag`)."""
