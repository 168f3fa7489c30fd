"""The settings of a cluster, and the line without Ray."""

import sys

import pytest

from pipeline.executor.cluster.session import RaySettings, connected
from shards.errors import UserError


@pytest.mark.parametrize("field", ["cpus_per_decoder", "gpus_per_teacher", "videos", "clips"])
def test_impossible_shares_are_refused(field):
    with pytest.raises(ValueError, match=field):
        RaySettings(**{field: 0})
    with pytest.raises(ValueError, match="at most 1"):
        RaySettings(gpus_per_teacher=2)


def test_without_ray_one_line_names_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 'soundnet\[ray\]'"), connected("local", 2):
        pass
