"""A checkpoint evaluated and used: published benchmarks, the paper's tables and figures, tags, features.

`python -m evaluate`, `.supervised`, `.supervised.finetune`, `.reproduce`, `.inference.tag` and `.inference.embed`."""
