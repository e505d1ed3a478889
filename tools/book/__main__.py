"""Build the book, book/_build/html/index.html, out of what is committed; nothing is executed and nothing is fetched
but MathJax, once.

    python -m tools.book            build; any warning is an error
    python -m tools.book 07         with one lesson and its exercises, while you write it
    python -m tools.book --check    build, then read every page in a browser, wide and narrow: links, formulas, console

The check needs playwright and a Chromium: `--chromium` names one, else an installed one or playwright's is taken.
"""

import argparse
import shutil
import sys
import time
from pathlib import Path

from minilip.data.fetch import MissingData
from tools.build import ROOT, Course
from tools.sources import BuildError

from . import mathjax, pages

BUILD = ROOT / "book" / "_build"


def build(root: Path, out: Path, chosen: list[str]) -> int:
    """0 if the book is there, without a warning."""
    try:
        from sphinx.cmd.build import build_main
    except ImportError:
        print('the book needs Sphinx: python -m pip install -e ".[course,book]"')
        return 2
    mathjax.copy(BUILD / "static" / "mathjax")
    pages.stage(pages.part(Course(root), chosen), out / "source")
    shutil.rmtree(out / "html", ignore_errors=True)
    options = ["--fail-on-warning", "--keep-going", "--fresh-env", "--quiet", "--jobs", "2"]
    folders = ["-c", str(ROOT / "book"), "-d", str(out / "doctrees"), str(out / "source"), str(out / "html")]
    return build_main(["-b", "html", *options, *folders])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lesson", nargs="*", help="the beginning of a lesson's name")
    parser.add_argument("--check", action="store_true", help="read every page in a browser")
    parser.add_argument("--pictures", metavar="FOLDER", type=Path, help="with --check: a picture of every page")
    parser.add_argument("--chromium", help="with --check: the browser to use")
    parser.add_argument("--built", action="store_true", help="with --check: the book as it is, without building it")
    options = parser.parse_args(arguments)
    start = time.monotonic()
    if not options.built:
        try:
            failed = build(ROOT, BUILD, options.lesson)
        except (BuildError, MissingData) as error:
            print(error, file=sys.stderr)
            return 1
        if failed:
            return failed
        print(f"{BUILD.relative_to(ROOT)}/html/index.html, in {time.monotonic() - start:.0f} s")
    if options.check:
        from . import browser

        return browser.check(BUILD / "html", options.pictures, options.chromium)
    return 0


if __name__ == "__main__":
    sys.exit(main())
