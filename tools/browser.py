"""Use the course as a learner does: JupyterLab in a browser, every lesson run from the menu, panels moved, an exercise
of each lesson solved by typing.

    python -m tools.browser                 all lessons
    python -m tools.browser 03 07           two of them
    python -m tools.browser --pictures out  and keep pictures of the pages

It works on copies in a temporary folder, with progress of its own. MINILIP_BUDGET is for the lessons alone; exercises
are done at the learner's own budget, which is what keeps progress. Chromium is the installed one, or playwright's.
"""

import argparse
import contextlib
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minilip.course import checks
from minilip.data import home
from tools.book.browser import chromium

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 900  # seconds for a lesson on two busy cores
SET_UP = 3  # code cells before the first exercise
STATUS = "() => document.querySelector('.jp-Notebook-ExecutionIndicator')?.getAttribute('data-status')"
LOOK = r"""() => {
  const texts = kind => [...document.querySelectorAll(`[data-mime-type="application/vnd.jupyter.${kind}"]`)]
    .map(e => e.textContent.slice(0, 300));
  const prompts = [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].map(e => e.textContent);
  return {
    errors: texts('error'), stderr: texts('stderr'), unrun: prompts.filter(text => /\[[ *]\]/.test(text)).length,
    figures: document.querySelectorAll('.jp-OutputArea img').length,
  };
}"""
SHOWN = """e => [...e.closest('.jp-OutputArea').querySelectorAll('img, svg, canvas, .widget-html')]
  .map(x => x.src || x.innerHTML).join('|')"""
# Slips of the pen, tried in turn until a check knows the mistake by name.
SLIPS = (
    (r" / 2\b", ""),
    (r"dim=1\b", "dim=0"),
    (r"dim=-1\b", "dim=0"),
    (r"\.mean\(\)", ".sum()"),
    (r"\.T\b", ""),
    (r"logit_scale \* ", ""),
    (r" / temperature", " * temperature"),
    (r" - ", " + "),
    (r"return -", "return "),
    (r"return ", "return -"),
    (r"return ", "return 2 * "),
    (r"\.square\(\)", ".abs()"),
    (r"\*\* 2", ""),
    (r" / ", " * "),
    (r" \+ ", " - "),
    (r" \* ", " + "),
    (r"\.log\(\)", ""),
    (r"\.exp\(\)", ""),
    (r"unbiased=True", "unbiased=False"),
)


@dataclass(frozen=True)
class Task:
    """An exercise to solve in the browser: which cell, what is asked, the right answer and one with a known mistake."""

    cell: int
    check: str
    right: str
    wrong: str
    mistake: str


def sources(folder: str, lesson: str) -> list[str]:
    """The code cells of a notebook."""
    cells = json.loads((ROOT / folder / f"{lesson}.ipynb").read_text("utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def task(lesson: str) -> Task | None:
    """The first exercise of a lesson whose solution a slip turns into a mistake that its check knows."""
    stubs, solutions = sources("exercises", lesson), sources("solutions", lesson)
    space: dict[str, Any] = {}
    with contextlib.redirect_stdout(io.StringIO()):
        for source in solutions[1:SET_UP]:
            exec(source, space)
        for at in range(SET_UP, len(stubs)):
            if not (name := re.search(r'^\w+ = check\("([\w.]+)"', stubs[at], re.M)):
                continue
            for pattern, instead in SLIPS:
                wrong = re.sub(pattern, instead, solutions[at], count=1)
                if wrong != solutions[at] and (mistake := named(wrong, space, name[1])):
                    return Task(at, name[1], solutions[at], wrong, mistake)
    return None


def named(source: str, space: dict[str, Any], check: str) -> str | None:
    """What the check calls the mistake in a cell, if that is one it knows."""
    exercise, found = checks.find(check)[1], []

    def judge(name: str, attempt: Any) -> checks.Report:
        report = checks.judge(checks.find(name)[1], attempt)
        if name == check and report.status == "FAIL":
            found.append(report.mistake)
        return report

    with contextlib.suppress(Exception):
        exec(source, {**space, "check": judge})
    return next((m for m in found if m in [known.name for known in exercise.misconceptions]), None)


# ---- JupyterLab ------------------------------------------------------------------------------------------------------


@contextmanager
def jupyter(folder: Path, **environment: str) -> Iterator[str]:
    """The address of a JupyterLab that shows `folder`; it ends with the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = folder / ".settings"
    tracker = settings / "@jupyterlab" / "notebook-extension" / "tracker.jupyterlab-settings"
    tracker.parent.mkdir(parents=True, exist_ok=True)
    tracker.write_text('{"windowingMode": "none"}')  # every cell is on the page, also what lies below
    news = settings / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    news.parent.mkdir(parents=True, exist_ok=True)
    news.write_text('{"fetchNews": "false", "checkForUpdates": false}')
    own = {name: value for name, value in os.environ.items() if name not in ("MINILIP_BUDGET", "MINILIP_STRICT")}
    own |= {"JUPYTERLAB_SETTINGS_DIR": str(settings), "JUPYTERLAB_WORKSPACES_DIR": str(folder / ".workspaces")}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}"]
    command += ["--IdentityProvider.token=", "--ServerApp.token=", f"--ServerApp.root_dir={folder}"]
    with (folder / "jupyter.log").open("w") as log:
        server = subprocess.Popen(command, cwd=folder, env={**own, **environment}, stdout=log, stderr=log)
    try:
        address, until = f"http://127.0.0.1:{port}", time.monotonic() + 120
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{address}/api/status", timeout=5).close()
                break
            if server.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"JupyterLab did not start:\n{(folder / 'jupyter.log').read_text()[-2000:]}")
            time.sleep(0.5)
        yield address
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()


class Notebook:
    """A notebook on a page of the browser."""

    def __init__(self, browser: Any, address: str, path: str):
        self.page = browser.new_page(viewport={"width": 1280, "height": 900})
        self.faults: list[str] = []
        self.page.on("pageerror", lambda error: self.faults.append(f"page error: {error}"))
        self.page.goto(f"{address}/lab/tree/{path}?reset", timeout=120_000)
        self.page.wait_for_selector(".jp-NotebookPanel .jp-Cell", timeout=120_000)
        self.idle(120)

    def idle(self, seconds: float = PATIENCE) -> None:
        """Wait until the kernel has nothing left to do."""
        until, quiet = time.monotonic() + seconds, 0
        while quiet < 3:
            if time.monotonic() > until:
                raise TimeoutError(f"the kernel is busy after {seconds:g} s")
            self.page.wait_for_timeout(400)
            quiet = quiet + 1 if self.page.evaluate(STATUS) == "idle" else 0

    def menu(self, name: str, item: str) -> None:
        self.page.click(f".lm-MenuBar-itemLabel:text-is('{name}')")
        self.page.click(f".lm-Menu-itemLabel:text-is('{item}')")

    def run_all(self) -> dict[str, Any]:
        self.menu("Run", "Run All Cells")
        self.page.wait_for_timeout(2000)
        self.idle()
        return self.page.evaluate(LOOK)

    def cell(self, number: int) -> Any:
        return self.page.locator(".jp-Notebook .jp-CodeCell").nth(number)

    def run(self, number: int, source: str | None = None) -> str:
        """Run a code cell, with this in it if something is given, and read what it prints."""
        cell = self.cell(number)
        editor = cell.locator(".cm-content")
        editor.scroll_into_view_if_needed()
        editor.click()
        if source is not None:
            self.page.keyboard.press("ControlOrMeta+A")
            self.page.keyboard.insert_text(source)
        self.page.keyboard.press("Shift+Enter")
        self.page.wait_for_timeout(600)
        self.idle()
        return "\n".join(cell.locator(".jp-OutputArea-output").all_inner_texts())

    def restart(self) -> None:
        self.menu("Kernel", "Restart Kernel…")
        self.page.click(".jp-Dialog button:has-text('Restart')")
        self.page.wait_for_timeout(3000)
        self.idle(120)

    def move(self) -> str | None:
        """Move the first slider, or else type into the first field of a panel; what is wrong, None if nothing is."""
        handle = self.page.locator(".jp-OutputArea .noUi-handle").first
        if handle.count():
            before = handle.evaluate(SHOWN)
            handle.scroll_into_view_if_needed()
            handle.focus()
            for _ in range(3):
                self.page.keyboard.press("ArrowRight")
        else:
            handle = self.page.locator(
                ".jp-OutputArea .widget-text input, .jp-OutputArea .widget-dropdown select"
            ).first
            if not handle.count():
                return None
            before = handle.evaluate(SHOWN)
            handle.scroll_into_view_if_needed()
            if handle.evaluate("e => e.tagName") == "SELECT":
                handle.select_option(index=1)
            else:
                words = handle.input_value().split()
                handle.fill(" ".join(reversed(words)) or "circle")
                handle.press("Enter")
        for _ in range(40):
            self.page.wait_for_timeout(500)
            if handle.evaluate(SHOWN) != before:
                self.idle()
                return None
        return "a panel was moved and its picture stayed the same"

    def pictures(self, folder: Path, name: str) -> None:
        """The pages one after the other, as a learner scrolls."""
        folder.mkdir(parents=True, exist_ok=True)
        panel = self.page.locator(".jp-WindowedPanel-outer").first
        height = panel.evaluate("e => e.scrollHeight")
        for i, y in enumerate(range(0, height, 820)):
            panel.evaluate("(e, y) => e.scrollTo(0, y)", y)
            self.page.wait_for_timeout(250)
            self.page.screenshot(path=folder / f"{name}-{i:02}.png")


# ---- what is done ----------------------------------------------------------------------------------------------------


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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
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
