"""What runs on the cluster, without Ray: a teacher that hangs ends its process, so that Ray starts another."""

from pathlib import Path

from pipeline.executor.cluster.workers import TeacherActor
from pipeline.executor.decode_worker import spawn


class Hanging(TeacherActor):
    def load(self):
        while True:
            pass


class Loaded(TeacherActor):
    def load(self):
        return None


def label(pipe, kind):
    actor = kind(None, "cpu", Path(), stall_seconds=0.2)
    pipe.send(actor.ready())
    pipe.recv()


def test_a_teacher_that_hangs_ends_its_process():
    process, _pipe = spawn(label, Hanging)
    process.join()
    assert process.exitcode == 1


def test_one_that_has_nothing_to_do_stays():
    process, pipe = spawn(label, Loaded)
    assert pipe.recv() == process.pid
    process.join(1)  # five times what it may hang
    assert process.is_alive()
    pipe.close()
    process.join()
