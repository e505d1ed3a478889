"""What modules of studies share around what they measure: a command line, arms of equal seeds, rows of their own."""

import argparse
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from minilip.studies.store import Study

PARTS = ("val", "test")  # of the data: for choosing, and for what is reported


def command(name: str, text: str | None) -> argparse.ArgumentParser:
    """The command line of `python -m minilip.studies.NAME`, whose help is the text of that module."""
    return argparse.ArgumentParser(
        prog=f"python -m minilip.studies.{name}",
        description=text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


@dataclass(frozen=True)
class Arms:
    """A study of named arms, each measured with the same seeds, on a part of the data.

    Args:
        study: whose `make` takes "arm", "seed" and "part".
        arms: {name: a named tuple of what is trained}.
        seeds: of every arm.
    """

    study: Study
    arms: Mapping[str, Any]
    seeds: Iterable[int]

    def settings(self, name: str, seed: int, part: str = "test") -> dict[str, Any]:
        return {"arm": self.arms[name]._asdict(), "seed": seed, "part": part}

    def known(self, part: str = "test") -> dict[str, list[Any]]:
        """What has been measured with this code: {name of an arm: [what `make` returns, for each seed]}.

        Raises:
            LookupError: entries are missing, as they are after a change of the code.
        """
        return {name: self.study.recall([self.settings(name, seed, part) for seed in self.seeds]) for name in self.arms}

    def complete(self, name: str, text: str | None) -> str:
        """Measure what the command line asks for, on one thread, so that numbers do not depend on the machine's cores.

        Returns:
            the chosen part
        """
        parser = command(name, text)
        parser.add_argument("--arms", nargs="+", metavar="ARM", choices=list(self.arms), default=list(self.arms))
        parser.add_argument("--part", choices=PARTS, default="test")
        chosen = parser.parse_args()
        torch.set_num_threads(1)
        self.study.complete(self.settings(arm, seed, chosen.part) for arm in chosen.arms for seed in self.seeds)
        return str(chosen.part)


@dataclass(frozen=True)
class Rows:
    """A study of the rows of a table, each with seeds of its own: spectra have none, and training is dear.

    Args:
        study: what measures a row.
        seeds: how many seeds each row has.
        settings: (row, seed) -> what `study` stores a result under.
    """

    study: Study
    seeds: Mapping[str, int]
    settings: Callable[[str, int], dict[str, Any]]

    def known(self) -> dict[str, list[dict[str, Any]]]:
        """What has been measured with this code: {row: [a result for each seed]}.

        Raises:
            LookupError: entries are missing, as they are after a change of the code.
        """
        return {row: self.study.recall([self.settings(row, s) for s in range(n)]) for row, n in self.seeds.items()}

    def complete(self, name: str, text: str | None) -> None:
        """Measure the rows that the command line asks for, on one thread, as `Arms.complete`."""
        parser = command(name, text)
        parser.add_argument("--rows", nargs="+", metavar="ROW", choices=list(self.seeds), default=list(self.seeds))
        chosen = parser.parse_args()
        torch.set_num_threads(1)
        self.study.complete(self.settings(row, seed) for row in chosen.rows for seed in range(self.seeds[row]))
