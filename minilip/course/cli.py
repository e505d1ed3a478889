"""The command `minilip`."""

import sys

USAGE = """\
usage: minilip grade NOTEBOOK ...    judge the exercises of notebooks (minilip grade --help)
"""


def main(arguments: list[str] | None = None) -> int:
    command, *rest = (sys.argv[1:] if arguments is None else arguments) or [""]
    if command == "grade":
        from minilip.course.grade.__main__ import main as grade  # torch takes seconds, a usage line should not

        return grade(rest, "minilip grade")
    print(USAGE, end="", file=sys.stdout if command in ("-h", "--help") else sys.stderr)
    return 0 if command in ("-h", "--help") else 2
