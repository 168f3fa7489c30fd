"""`make demo`: every command of the main job, one after the other, and a page on what came of it."""

import argparse
import sys

from evaluate.demo.run import main
from shards.cli.commands import as_called
from shards.cli.pipes import ending_quietly
from shards.cli.preemption import PREEMPTED, Preempted, preemptible
from shards.errors import UserError

if __name__ == "__main__":
    with ending_quietly(), preemptible():
        parser = argparse.ArgumentParser(prog=as_called("make demo"), description=__doc__)
        parser.parse_args()  # it has no settings, and says so
        try:
            main()
        except UserError as error:
            sys.exit(f"error: {as_called(str(error))}")
        except KeyboardInterrupt:
            print("error: interrupted: the same command goes on from what is finished", file=sys.stderr)
            sys.exit(130)
        except Preempted:
            print("error: stopped by SIGTERM: the same command goes on from what is finished", file=sys.stderr)
            sys.exit(PREEMPTED)
