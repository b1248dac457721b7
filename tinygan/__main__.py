"""The command tinygan:  tinygan sample RUN,  tinygan evaluate RUN...,  tinygan gradcheck FILE.py"""

import argparse
import runpy
import sys

COMMANDS = {
    "sample": "draw pictures from a trained run",
    "evaluate": "measure the digits that trained runs draw",
    "lab": "watch a GAN learn, live in a browser",
    "gradcheck": "check the derivatives in a Python file against finite differences",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="tinygan", description="tinygan COMMAND --help explains each command.",
        formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
        epilog="commands:\n" + "\n".join(f"  {name:10} {does}" for name, does in COMMANDS.items()),
    )
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="see below")
    command = parser.parse_args(sys.argv[1:2]).command
    del sys.argv[1]
    runpy.run_module(f"tinygan.{command}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
