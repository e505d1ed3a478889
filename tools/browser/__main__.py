"""Use the course as a learner does: JupyterLab in a browser, every lesson run from the menu, panels moved, an exercise
of each lesson solved by typing.

    python -m tools.browser                 all lessons
    python -m tools.browser 03 07           two of them
    python -m tools.browser --pictures out  and keep pictures of the pages

It works on copies in a temporary folder, with progress of its own. MINILIP_BUDGET is for the lessons alone; exercises
are done at the learner's own budget, which is what keeps progress. Chromium is the installed one, or playwright's.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from minilip.data import home
from tools.book.browser import chromium
from tools.browser.lab import Notebook, jupyter
from tools.browser.tasks import ROOT, SET_UP, sources, task


def read_lesson(browser: Any, address: str, lesson: str, pictures: Path | None) -> list[str]:
    """Run a lesson from the menu and move its panel; what is wrong."""
    book = Notebook(browser, address, f"notebooks/{lesson}.ipynb")
    look = book.run_all()
    found = book.faults + [f"error: {text}" for text in look["errors"]] + [f"stderr: {text}" for text in look["stderr"]]
    found += [f"{look['unrun']} cells without a number"] if look["unrun"] else []
    found += [] if look["figures"] else ["no figure"]
    found += [moved] if (moved := book.move()) else []
    if pictures:
        book.pictures(pictures, lesson)
    book.page.close()
    return found


def solve(browser: Any, address: str, lesson: str, pictures: Path | None) -> list[str]:
    """One exercise: not begun, wrong, right, and still solved after a restart; what is wrong."""
    if (asked := task(lesson)) is None:
        return ["no exercise with a mistake to make"]
    book = Notebook(browser, address, f"exercises/{lesson}.ipynb")
    found: list[str] = []

    def expect(said: str, *words: str) -> None:
        found.extend(f"{asked.check}: expected {word!r}, read {said[:200]!r}" for word in words if word not in said)

    for number in range(SET_UP):
        book.run(number)
    expect(book.run(asked.cell), f"TODO  {asked.check}")
    expect(book.run(asked.cell, asked.wrong), f"FAIL  {asked.check} · {asked.mistake}")
    expect(book.run(asked.cell, asked.right), f"PASS  {asked.check}")
    book.restart()
    for number in range(SET_UP):
        book.run(number)
    last = len(sources("exercises", lesson)) - 1
    told = book.run(last)
    row = next((line for line in told.splitlines() if asked.check in line.split()), "")
    expect(row, "PASS")
    expect(told, "next: ")
    if pictures:
        book.pictures(pictures, f"{lesson}-exercises")
    book.page.close()
    return found + book.faults


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.browser", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("lesson", nargs="*", help="numbers of lessons; all without any")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="keep pictures of the pages here")
    parser.add_argument("--chromium", help="the browser to use")
    options = parser.parse_args(arguments)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        print('this needs playwright: python -m pip install -e ".[browser]"')
        return 2
    names = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
    chosen = [name for name in names if not options.lesson or name.partition("_")[0] in options.lesson]
    if unknown := set(options.lesson) - {name.partition("_")[0] for name in names}:
        print(f"no lesson {', '.join(sorted(unknown))}; there are {', '.join(n.partition('_')[0] for n in names)}")
        return 2
    faults = 0

    def told(what: str, found: list[str], start: float) -> None:
        nonlocal faults
        faults += len(found)
        print(f"{what}: {time.monotonic() - start:.0f} s, {'; '.join(found) or 'no fault'}", flush=True)

    budget = {"MINILIP_BUDGET": mode} if (mode := os.environ.get("MINILIP_BUDGET")) else {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary, sync_playwright() as play:
        folder = Path(temporary)
        for part in ("notebooks", "exercises"):
            shutil.copytree(ROOT / part, folder / part)
        browser = play.chromium.launch(
            executable_path=chromium(options.chromium), args=["--no-sandbox", "--disable-gpu"]
        )
        with jupyter(folder, **budget) as address:
            for lesson in chosen:
                start = time.monotonic()
                told(f"notebooks/{lesson}", read_lesson(browser, address, lesson, options.pictures), start)
        (folder / "home").mkdir()
        for kept in home().iterdir() if home().is_dir() else ():
            if not kept.name.startswith("progress"):
                (folder / "home" / kept.name).symlink_to(kept)
        with jupyter(folder, MINILIP_HOME=str(folder / "home")) as address:
            for lesson in chosen:
                if (ROOT / "exercises" / f"{lesson}.ipynb").exists():
                    start = time.monotonic()
                    told(f"exercises/{lesson}", solve(browser, address, lesson, options.pictures), start)
        browser.close()
    print(f"{len(chosen)} lessons: {faults} faults")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
