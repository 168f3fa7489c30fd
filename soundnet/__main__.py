"""`python -m soundnet COMMAND`, as `soundnet COMMAND`."""

from soundnet.command import main

if __name__ == "__main__":
    main()
