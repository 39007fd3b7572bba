"""``python -m mofang.surface.cli``: the command `mofang` where its script is not on the path."""

from mofang.surface.cli.main import main

if __name__ == "__main__":
    main()
