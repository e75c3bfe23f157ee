"""`python -m byrote`: the command line, where the `byrote` script is not on the path."""

from byrote.cli import main

if __name__ == "__main__":
    main()
