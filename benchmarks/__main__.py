"""`python -m benchmarks [losses] [renderer] [clip] [--quick]`: measure, print, and write benchmarks/README.md."""

import argparse
import datetime
import os
import platform
import re
from pathlib import Path

import torch

from . import clip_time, losses, renderer

SECTIONS = {"losses": losses.report, "renderer": renderer.report, "clip": clip_time.report}
README = Path(__file__).with_name("README.md")


def processor() -> str:
    try:
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.M)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


def load() -> str:
    return f"{os.getloadavg()[0]:.2f}" if hasattr(os, "getloadavg") else "unknown"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("section", nargs="*", choices=[*SECTIONS, []], help="default: all")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, nothing written: only see that it runs")
    options = parser.parse_args()
    for name in options.section or SECTIONS:
        print(f"{name} ...", flush=True)
        before = load()
        table = SECTIONS[name](options.quick)
        where = (
            f"{datetime.date.today()}, torch {torch.__version__}, Python {platform.python_version()}, {processor()}, "
            f"{torch.get_num_threads()} threads, load {before} before and {load()} after."
        )
        if not options.quick:
            write(name, f"{where}\n\n{table}")


def write(name: str, text: str) -> None:
    """Replace what stands between the section's markers; whole or not at all."""
    page = README.read_text(encoding="utf-8")
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    if begin not in page or end not in page:
        raise SystemExit(f"{README}: expected the markers {begin.strip()} and {end}, found none")
    head, tail = page.split(begin)[0], page.split(end)[1]
    part = README.with_suffix(".part")
    part.write_text(f"{head}{begin}{text}\n{end}{tail}", encoding="utf-8")
    part.replace(README)


if __name__ == "__main__":
    main()
