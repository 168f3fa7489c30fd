"""The paper's figures, each drawn from artifacts: a checkpoint, scores, labelled videos, or a folder of shards."""
