"""`python -m pipeline` is `penstock`."""

from .cli import main

if __name__ == "__main__":
    main()
