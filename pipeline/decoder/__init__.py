"""One video in, its clips out: the sampled frames and the sound, cut at the same times."""
