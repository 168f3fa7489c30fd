"""The HEAR 2021 API (https://hearbenchmark.com/hear-api.html): `hear-validator hear_soundnet -m CHECKPOINT`.

With this checkout on the path (PYTHONPATH) nothing needs to be installed but its dependencies.
"""

from soundnet.modules import own

_api = own("evaluate.inference.hear2021")

load_model = _api.load_model
get_scene_embeddings = _api.get_scene_embeddings
get_timestamp_embeddings = _api.get_timestamp_embeddings
