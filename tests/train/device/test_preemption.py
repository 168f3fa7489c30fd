"""A signal stops the loop at its next step; a second Ctrl-C does not wait."""

from __future__ import annotations

import os
import signal

import pytest

from shards.cli.preemption import PREEMPTED
from train.device.distributed import Ranks
from train.device.preemption import Stop


def test_sigterm_stops_and_ends_with_its_own_code() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Stop(Ranks()) as stop:
        assert not stop()
        stop.leave()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop() and stop()
        with pytest.raises(SystemExit) as left:
            stop.leave()
    assert left.value.code == PREEMPTED
    assert signal.getsignal(signal.SIGTERM) == before


def test_ctrl_c_ends_as_an_interruption_and_twice_at_once() -> None:
    with Stop(Ranks()) as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop()
        with pytest.raises(KeyboardInterrupt):
            stop.leave()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
