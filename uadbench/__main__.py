"""`python -m uadbench` is the command `uadbench`."""

from uadbench.cli import main

if __name__ == "__main__":
    main()
