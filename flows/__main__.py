"""`python -m flows` is `oscar-flow`."""

from flows.cli import main

if __name__ == "__main__":
    main()
