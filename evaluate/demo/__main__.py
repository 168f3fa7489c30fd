"""`python -m evaluate.demo`: every command of the main job, one after the other, and a page on what came of it."""

import argparse
import sys

from evaluate.demo.run import main
from shards.cli.pipes import ending_quietly
from shards.errors import UserError

if __name__ == "__main__":
    with ending_quietly():
        argparse.ArgumentParser(prog="make demo", description=__doc__).parse_args()  # it has no settings, and says so
        try:
            main()
        except UserError as error:
            sys.exit(str(error))
