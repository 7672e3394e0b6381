"""python -m tutti.torch build | info: compiles the backend for the PyTorch that is installed, and tells what is there.

Exit status 0 when the backend is there at the end, 1 when it is not, 2 when the command makes no sense.
"""

from __future__ import annotations

import argparse
import sys

from . import _build


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tutti.torch", description="The torch backend of tutti.")
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="compile the backend for the PyTorch that is installed (about a minute)")
    build.add_argument("--force", action="store_true", help="compile it even if it is there")
    build.add_argument("--verbose", action="store_true", help="show the commands of the compiler and what it says")
    commands.add_parser("info", help="tell what is installed, and whether the backend is built for it")
    arguments = parser.parse_args()
    try:
        if arguments.command == "build":
            print(f"the backend is {_build.build(verbose=arguments.verbose, force=arguments.force)}")
            return 0
        return info()
    except _build.BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def info() -> int:
    """Prints what is installed; returns the exit status."""
    print(f"python    {sys.version.split()[0]}, {sys.executable}")
    print(f"tutti     {_build.PACKAGE.parent}")
    for name, find in ("compiler", _build.find_compiler), ("headers", _build.find_python_headers):
        try:
            found = find()
            print(f"{name:<9} {' '.join(found) if isinstance(found, list) else found}")
        except _build.BuildError as error:  # needed for building only
            print(f"{name:<9} {error}")
    torch = _build.import_torch()
    print(f"torch     {torch.__version__}, {torch.__file__}")
    path = _build.find()
    print(f"backend   {path or f'not built: run `{_build.build_command()}`'}")
    return 0 if path else 1


if __name__ == "__main__":
    sys.exit(main())
