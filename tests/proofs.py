"""What every exercise's checks are held to; a test module binds both functions to names of its own."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from minilip.course.checks import Exercise, Prediction, prove
from minilip.course.checks._mutate import survivors

Test = Callable[[str], None]


def proved(
    exercises: Mapping[str, Exercise | Prediction], right: Mapping[str, Sequence[Callable[..., Any]]] | None = None
) -> tuple[Test, Test]:
    """Two tests: the five proofs of each exercise, with more `right` answers; and that no mutant passes unnoticed."""

    @pytest.mark.parametrize("name", exercises)
    def test_exercise(name: str) -> None:
        wrong = [a for a in prove(exercises[name], (right or {}).get(name, ())) if a.wrong]
        assert not wrong, wrong

    @pytest.mark.parametrize("name", [name for name, e in exercises.items() if isinstance(e, Exercise)])
    def test_no_mutant_passes_unnoticed(name: str) -> None:
        made, passed = survivors(exercises[name])
        unnoticed = [s for s in passed if s.differs]
        assert made and not unnoticed, unnoticed

    return test_exercise, test_no_mutant_passes_unnoticed
