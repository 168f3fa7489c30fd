"""Stage two: shards stream in, a student learns from the waveform alone, a checkpoint that describes itself comes out.

Run as `python -m train`; `.checkpoint.published` imports the authors' weights, `.checkpoint.export` writes others.
"""
