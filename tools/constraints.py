"""Write constraints.txt: the versions that are installed here, with which the tests have just passed.

    make test constraints

A learner installs exactly these on the day when a newer release breaks something: README says how.
"""

from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
FIRST, LAST = 10, 14  # the minor versions of Python that a pin is asked about
HEAD = """\
# Versions with which every test has passed, written by `make constraints`; never edited by hand.
# A release that needs a newer Python than ours is pinned from that Python on; before it, pip takes the last one that
# ran there, which does not move any more. torch pins its own GPU packages, so they are not named.
"""
OF_TORCH = ("cuda-", "nvidia-", "triton")


def closure(project: str, *extras: str) -> set[str]:
    """The names of all packages that a project needs with these extras, on this machine."""
    found: set[str] = set()
    seen: set[tuple[str, str]] = set()
    todo = [(project, extra) for extra in ("", *extras)]
    while todo:
        name, extra = key = todo.pop()
        if key in seen:
            continue
        seen.add(key)
        found.add(name)
        for requirement in map(Requirement, distribution(name).requires or []):
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                todo += [(canonicalize_name(requirement.name), e) for e in ("", *requirement.extras)]
    return found - {project}


def pin(name: str) -> str:
    """`numpy==2.4.6 ; python_version >= "3.11"`: the marker where the release itself asks for it."""
    found = distribution(name)
    asks = SpecifierSet(found.metadata["Requires-Python"] or "")
    first = next(minor for minor in range(FIRST, LAST + 1) if asks.contains(f"3.{minor}.99"))
    marker = f' ; python_version >= "3.{first}"' if first > FIRST else ""
    return f"{name}=={Version(found.version).public}{marker}"


def pins() -> list[str]:
    return [pin(name) for name in sorted(closure("minilip", "course", "test")) if not name.startswith(OF_TORCH)]


if __name__ == "__main__":
    (ROOT / "constraints.txt").write_text(HEAD + "\n".join(pins()) + "\n", encoding="utf-8")
