"""Showing and comparing: both sides of an equation, a source, the table of claims."""

import inspect
import sys
import textwrap
from typing import Any

from minilip import _check
from minilip.course import compare, session
from minilip.course.console import say

CLAIMS = "application/vnd.minilip.claims+json"
UNTESTABLE = "not testable here"  # a verdict of its own: neither "does not hold" nor "not judged"


def emit(bundle: dict[str, Any], display_id: str | None = None, update: bool = False) -> None:
    """Show a MIME bundle in a notebook; outside IPython, print its plain text."""
    if "IPython" in sys.modules and sys.modules["IPython"].get_ipython():
        from IPython.display import display

        display(bundle, raw=True, display_id=display_id, update=update)
    else:
        say(bundle["text/plain"])


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
        say(f"{name}  left  {compare.numbers(x)}\n{' ' * len(name)}  right {compare.numbers(y)}")
        say(f"{' ' * len(name)}  relative difference {apart:.1e}")
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
    judged = holds if untestable else None if session.quick() or holds is None else bool(holds)
    rows: dict[str, dict] = session.claims["rows"]
    rows[id] = dict(id=id, says=says, source=source, measured=measured, holds=judged, note=note)
    words = {True: "holds", False: "does not hold", UNTESTABLE: UNTESTABLE, None: "not judged"}
    table = [("The paper says", "Source", "We measure", "Verdict", "Note"), ("---",) * 5]
    table += [(r["says"], r["source"], r["measured"], f"**{words[r['holds']]}**", r["note"]) for r in rows.values()]
    markdown = ("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in table)
    bundle = {
        "text/plain": f"{id}: {words[judged]} · {measured}",
        "text/markdown": "\n".join(markdown),
        CLAIMS: {"lesson": session.claims["lesson"], "rows": list(rows.values())},
    }
    # Running the first row's cell again clears the display that later rows update: it opens a new one.
    emit(bundle, f"claims-{session.claims['lesson']}", update=next(iter(rows)) != id)
