"""minilip and its peers, side by side in one run: `python -m benchmarks`."""

from collections.abc import Iterable, Sequence


def header(columns: Sequence[str], words: int = 0) -> list[str]:
    """The first two lines of a table; all columns but the first `words` hold numbers."""
    return [row(columns), row(["---"] * words + ["---:"] * (len(columns) - words))]


def row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def target(says: str, measured: float, limit: float) -> str:
    """A line that tells whether a target is reached: what is measured must not be above the limit."""
    return f"- {says}: {measured:.3g}, target at most {limit:g}: {'met' if measured <= limit else '**missed**'}"
