"""How long each step took: the longest visit counts, a stopped one is not noted, a damaged file is as good as none."""

import json
import subprocess
import sys

import pytest

from evaluate.demo.duration import Duration, durations, in_words, timed


def test_a_step_is_noted_with_the_cpu_time_of_the_processes_it_waited_for(tmp_path):
    path = tmp_path / "durations.json"
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    with timed("training", path):
        subprocess.run([sys.executable, "-c", burn], check=True)
    (found,) = durations(path).values()
    assert found.cpu_seconds >= 0.25 and found.seconds >= 0.25  # in ticks of 10 ms, one for each of four counters


def test_of_two_visits_the_longer_counts_and_a_stopped_one_does_not(tmp_path):
    path = tmp_path / "durations.json"
    path.write_text(json.dumps({"training": {"seconds": 60, "cpu_seconds": 100}}))
    with timed("training", path):
        pass
    with pytest.raises(KeyboardInterrupt), timed("probing", path):
        raise KeyboardInterrupt
    assert durations(path) == {"training": Duration(60, 100)}


@pytest.mark.parametrize("damaged", ["", "[]", '{"training": 3}', '{"training": {"hours": 1}}'])
def test_a_damaged_file_holds_no_times(tmp_path, damaged):
    path = tmp_path / "durations.json"
    path.write_text(damaged)
    assert durations(path) == durations(tmp_path / "missing") == {}


def test_words_name_the_total_and_the_parts():
    words = in_words({"rendering": Duration(20.4, 35), "training": Duration(60, 100)})
    assert words.startswith("Up to this page it took 80 s on ") and "135 s of CPU time" in words
    assert words.endswith("rendering 20 s, training 60 s.")
