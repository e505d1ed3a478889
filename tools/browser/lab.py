"""JupyterLab in a browser: a server, and a notebook on a page of it."""

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PATIENCE = 900  # seconds for a lesson on two busy cores
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
