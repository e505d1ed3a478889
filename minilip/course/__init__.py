"""What every notebook starts from: `from minilip.course import *`, then `device = setup("07_clip")`."""

import inspect
import json
import os
import random
import sys
import textwrap
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from minilip import __version__, _check
from minilip.course import checks, plot
from minilip.course.checks import _compare as compare
from minilip.data import home

__all__ = ["UNTESTABLE", "budget", "check", "claim", "hint", "progress", "quick", "same", "setup", "show"]

T = TypeVar("T")
CLAIMS = "application/vnd.minilip.claims+json"
UNTESTABLE = "not testable here"  # a verdict of its own: neither "does not hold" nor "not judged"

_claims: dict[str, Any] = {"lesson": "", "rows": {}}
_session: dict[str, dict] = {}  # progress that is not kept on disk


def emit(bundle: dict[str, Any], display_id: str | None = None, update: bool = False) -> None:
    """Show a MIME bundle in a notebook; outside IPython, print its plain text."""
    if "IPython" in sys.modules and sys.modules["IPython"].get_ipython():
        from IPython.display import display

        display(bundle, raw=True, display_id=display_id, update=update)
    else:
        print(bundle["text/plain"])


# ---- setting up ------------------------------------------------------------------------------------------------------


def setup(lesson: str, seed: int = 0) -> torch.device:
    """Fix seeds and threads, set the figure style, print one line about this machine; the device to compute on.

    Args:
        lesson: the name of its folder, "07_clip".
        seed: of Python's, NumPy's and torch's random numbers.

    Environment: MINILIP_THREADS (else OMP_NUM_THREADS, else all cores), MINILIP_BUDGET (see `budget`).
    """
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    if "MINILIP_THREADS" in os.environ or "OMP_NUM_THREADS" not in os.environ:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        torch.set_num_threads(int(os.environ.get("MINILIP_THREADS", cores)))
    plot.style()
    _claims.update(lesson=lesson, rows={})
    device = _device()
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    threads = f"{(n := torch.get_num_threads())} thread{'s' if n > 1 else ''}"
    print(f"minilip {__version__} · torch {torch.__version__} · {name} · {threads} · budget {_mode()}")
    return device


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _mode() -> str:
    mode = os.environ.get("MINILIP_BUDGET") or ("gpu" if _device().type == "cuda" else "cpu")
    _check.choice("MINILIP_BUDGET", mode, ("quick", "cpu", "gpu"))
    return mode


def quick() -> bool:
    """Whether this run only tests that everything works: then nothing is trained to the end and no claim judged."""
    return _mode() == "quick"


def budget(cpu: T, gpu: T | None = None, quick: T | None = None) -> T:
    """A size or a number of steps that fits the machine: `budget(cpu=300, gpu=3000)`.

    Args:
        cpu: for two CPU cores.
        gpu: for a GPU; the same as cpu where not given.
        quick: for a test run; where not given at most 2 for a whole number, the same as cpu for all else.

    MINILIP_BUDGET=quick, cpu or gpu chooses; without it the device does.
    """
    if quick is None:
        quick = min(cpu, 2) if isinstance(cpu, int) else cpu  # type: ignore[assignment]
    return {"cpu": cpu, "gpu": cpu if gpu is None else gpu, "quick": quick}[_mode()]  # type: ignore[return-value]


# ---- showing and judging ---------------------------------------------------------------------------------------------


def same(name: str, left: Any, right: Any, tolerance: float = 1e-5) -> None:
    """Print two independently computed sides of an equation and assert that they agree.

    Args:
        name: of the equation, "(2)".
        left, right: numbers, tensors, arrays, or tuples of these, alike in shape.
        tolerance: on the largest difference relative to the largest number on either side (at least 0.01).

    Raises:
        AssertionError: they differ in shape or by more than the tolerance, or are not numbers.
    """
    lefts, rights = list(compare.leaves(left).values()), list(compare.leaves(right).values())
    shapes = [compare.shape(x) for x in lefts]
    if not shapes or None in shapes or shapes != [compare.shape(x) for x in rights]:
        raise AssertionError(f"{name}: left is {compare.describe(left)}, right is {compare.describe(right)}")
    for x, y in zip(lefts, rights, strict=True):
        apart = compare.gap(x, y)
        print(f"{name}  left  {compare.numbers(x)}\n{' ' * len(name)}  right {compare.numbers(y)}")
        print(f"{' ' * len(name)}  relative difference {apart:.1e}")
        if not apart <= tolerance:
            raise AssertionError(f"{name}: the sides differ by {apart:.1e} of their size; {tolerance:.0e} is allowed")


def show(obj: Any) -> None:
    """The source of a function, class or module, highlighted."""
    source = textwrap.dedent(inspect.getsource(obj)).rstrip()
    # Markdown and not IPython's Code: a ninth of the size, and GitHub highlights it too.
    emit({"text/plain": source, "text/markdown": f"````python\n{source}\n````"})


def claim(id: str, says: str, source: str, measured: str, holds: Any, note: str = "") -> None:
    """One row of the lesson's table of claims. The table is one display that grows; a repeated id replaces its row.

    Args:
        id: short and unique in the lesson, "temperature-sharpens".
        says: what the paper says; source: where it says so ("CLIP, table 3").
        measured: what this lesson measures, with its spread and unit.
        holds: whether the measurement bears the claim out, computed from it; not judged in a quick run. UNTESTABLE
            where this bed could not have shown it either way: the note says why.
        note: what is smaller here than in the paper.
    """
    untestable = isinstance(holds, str)
    if untestable:
        _check.choice("holds", holds, (UNTESTABLE,))
    judged = holds if untestable else None if quick() or holds is None else bool(holds)
    rows: dict[str, dict] = _claims["rows"]
    rows[id] = dict(id=id, says=says, source=source, measured=measured, holds=judged, note=note)
    words = {True: "holds", False: "does not hold", UNTESTABLE: UNTESTABLE, None: "not judged"}
    table = [("The paper says", "Source", "We measure", "Verdict", "Note"), ("---",) * 5]
    table += [(r["says"], r["source"], r["measured"], f"**{words[r['holds']]}**", r["note"]) for r in rows.values()]
    markdown = ("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in table)
    bundle = {
        "text/plain": f"{id}: {words[judged]} · {measured}",
        "text/markdown": "\n".join(markdown),
        CLAIMS: {"lesson": _claims["lesson"], "rows": list(rows.values())},
    }
    # Running the first row's cell again clears the display that later rows update: it opens a new one.
    emit(bundle, f"claims-{_claims['lesson']}", update=next(iter(rows)) != id)


# ---- exercises -------------------------------------------------------------------------------------------------------


def check(name: str, attempt: Any) -> checks.Report:
    """Judge an exercise, print the verdict and return the report; `.use` is what the notebook goes on with.

    Args:
        name: "lesson.exercise", such as "clip.zero_shot".
        attempt: the function or value asked for.

    Raises:
        ValueError: there is no exercise of that name.
        AssertionError: the verdict is not PASS, and MINILIP_STRICT=1.
    """
    _, exercise = checks.find(name)
    report = checks.judge(exercise, attempt)
    lines = [f"{report.status}  {name}" + (f" · {report.mistake}" if report.mistake else "")]
    if report.status != "PASS":
        goes_on = "the right answer" if isinstance(exercise, checks.Prediction) else "the library's version"
        lines += report.message.splitlines()
        lines += [f'The notebook goes on with {goes_on}. Stuck? hint("{name}")']
    verdict = "\n".join(textwrap.fill(line, 110, replace_whitespace=False) for line in lines)
    print(verdict)
    rows = _progress()
    if rows.get(name, {}).get("status") != "PASS":  # solved once is solved
        _record(rows, name, status=report.status)
    if report.status != "PASS" and _strict():
        raise AssertionError(verdict)
    return report


def hint(name: str) -> None:
    """Print the next hint of an exercise; after the last one, where its solution is."""
    lesson, exercise = checks.find(name)
    rows = _progress()
    used = rows.get(name, {}).get("hints", 0)
    if used == len(exercise.hints):
        print(f"Those were all the hints. The solution is in solutions/{lesson}.ipynb")
        return
    print(textwrap.fill(f"Hint {used + 1} of {len(exercise.hints)}: {exercise.hints[used]}", 110))
    _record(rows, name, hints=used + 1)


def progress() -> None:
    """Print every exercise of the course: its lesson, whether it is solved, and the hints used."""
    rows, exercises = _progress(), checks.catalogue()
    for name, (lesson, _) in exercises.items():
        row = {"status": "TODO", "hints": 0} | rows.get(name, {})
        print(f"{lesson:16}  {name:{max(map(len, exercises))}}  {row['status']}  {row['hints']} of 3 hints")
    print(f"{sum(rows.get(name, {}).get('status') == 'PASS' for name in exercises)} of {len(exercises)} solved")


def _strict() -> bool:
    return os.environ.get("MINILIP_STRICT") == "1"


def _progress() -> dict[str, dict]:
    """name -> {"status", "hints"}. Quick and strict runs are tests, and leave a learner's record alone."""
    if quick() or _strict():
        return dict(_session)
    path = home() / "progress.json"
    try:
        kept = json.loads(path.read_text(encoding="utf-8")).items()
        return {name: {"status": str(row["status"]), "hints": int(row["hints"])} for name, row in kept} | _session
    except FileNotFoundError:
        return dict(_session)
    except (OSError, ValueError, TypeError, AttributeError, KeyError):
        print(f"{path} could not be read: progress starts afresh")
        return dict(_session)


def _record(rows: dict[str, dict], name: str, **change: Any) -> None:
    row = {"status": "TODO", "hints": 0} | rows.get(name, {}) | change
    if not quick() and not _strict():
        path = home() / "progress.json"
        part = Path(f"{path}.{os.getpid()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(json.dumps(rows | {name: row}, indent=1), encoding="utf-8")
            part.replace(path)  # atomic: a kernel killed here leaves the old file whole
            return
        except OSError as error:
            print(f"progress is not kept beyond this session: {error}")
    _session[name] = row
