"""The contract between the stages: clips of sound beside posteriors, in tars that describe themselves.

It imports no torch. `python -m shards shards=DIR` verifies a folder.
"""
