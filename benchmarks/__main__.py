"""Measure minilip beside its peers, print the tables, and write them into benchmarks/README.md."""

import argparse
import datetime
import os
import platform
import re
import time
from pathlib import Path

import torch

from . import clip_time, kmeans, losses, renderer

SECTIONS = {
    "losses": losses.report,
    "renderer": renderer.report,
    "kmeans": kmeans.report,
    "clip": clip_time.report,
}
README = Path(__file__).with_name("README.md")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("section", nargs="?", choices=SECTIONS, help="default: all")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, nothing written: only see that it runs")
    options = parser.parse_args()
    for name in [options.section] if options.section else SECTIONS:
        print(f"\n{name}", flush=True)
        before, start, threads = load(), time.perf_counter(), torch.get_num_threads()
        tables = SECTIONS[name](options.quick)
        where = (
            f"{datetime.date.today()}, torch {torch.__version__}, Python {platform.python_version()}, {processor()}, "
            f"{threads} thread{'s' if threads > 1 else ''}, load {before} at the start and {load()} at the end, "
            f"{time.perf_counter() - start:.0f} s in all."
        )
        print(where, flush=True)
        if not options.quick:
            write(README, name, f"{where}\n\n{tables}")


def processor() -> str:
    try:
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.M)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


def load() -> str:
    return f"{os.getloadavg()[0]:.2f}" if hasattr(os, "getloadavg") else "unknown"


def write(page: Path, name: str, text: str) -> None:
    """Replace what stands between a section's markers; the page is always the old one or the new one, whole."""
    old = page.read_text(encoding="utf-8")
    parts = re.split(f"(?<=<!-- {name} -->\n).*?(?=<!-- /{name} -->)", old, flags=re.S)
    if len(parts) != 2:
        raise SystemExit(f"{page}: expected the markers <!-- {name} --> and <!-- /{name} --> once, with room between")
    part = page.with_name(f"{page.name}.tmp")
    part.write_text(f"{parts[0]}\n{text}\n\n{parts[1]}", encoding="utf-8")
    part.replace(page)


if __name__ == "__main__":
    main()
