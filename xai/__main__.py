"""`python -m xai`."""

from xai.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
