"""Long measurements, made once by the code that a lesson shows and kept under the content that made them.

An entry's key is a digest of its settings and of the code that its study names (comments and docstrings aside): change
a line of it that computes, and it is measured afresh. A study names its own procedure; what has an oracle of its own in
the tests (losses, towers, the operator, the training loop) is left out, so that a clearer error message costs no hour.
Entries that come with the course lie in `measured/`; those of your own settings are added to `home() / "measured"`.
"""

import ast
import inspect
import json
import textwrap
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from minilip.data import home

SHIPPED = Path(__file__).parent / "measured"


def fingerprint(*objects: Any) -> str:
    """Twelve hexadecimal digits that change with the code of functions, classes and values, not with its comments."""
    parts = [_code(thing) if callable(thing) else repr(thing) for thing in objects]
    return sha256("\n".join(parts).encode()).hexdigest()[:12]


def _code(thing: Any) -> str:
    return _tree(ast.parse(textwrap.dedent(inspect.getsource(thing))))


def _tree(node: Any) -> str:
    """As `ast.dump`, but the same under every Python: a field that only some versions have is empty and left out."""
    if isinstance(node, ast.AST):
        fields = (f"{name}={_tree(value)}" for name, value in ast.iter_fields(node) if value not in (None, []))
        return f"{type(node).__name__}({', '.join(fields)})"
    if isinstance(node, list):
        return f"[{', '.join(_tree(part) for part in node if not _is_docstring(part))}]"
    return repr(node)


def _is_docstring(node: Any) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def entries(study: str) -> dict[str, dict[str, Any]]:
    """What is known of a study, the course's entries and your own: {key: {"settings": ..., "result": ...}}."""
    found: dict[str, dict[str, Any]] = {}
    for folder in (SHIPPED, home() / "measured"):
        path = folder / f"{study}.jsonl"
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    entry = json.loads(line)
                except ValueError:  # the last words of a run that was killed
                    continue
                found[entry.pop("key")] = entry
    return found


def key(settings: dict[str, Any], code: str) -> str:
    """Of an entry: a digest of its settings and of the code's `fingerprint`."""
    return sha256(json.dumps([settings, code], sort_keys=True).encode()).hexdigest()[:16]


def recall(study: str, settings: list[dict[str, Any]], code: str, module: str) -> list[dict[str, Any]]:
    """The results of all these settings.

    Raises:
        LookupError: some are not known for this code; the message says how many, and which module measures them.
    """
    found = entries(study)
    names = [key(each, code) for each in settings]
    if missing := sum(name not in found for name in names):
        raise LookupError(
            f"{study}: {missing} of {len(names)} entries have not been measured with this code. "
            f"`python -m {module}` measures them, in minutes each."
        )
    return [found[name]["result"] for name in names]


def stored(
    study: str, settings: dict[str, Any], code: str, make: Callable[..., dict[str, Any]], folder: Path | None = None
) -> dict[str, Any]:
    """The result of `make(**settings)`, from the store where it is known, else made now and added to it.

    Args:
        study: name of the file of entries.
        settings: JSON values only.
        code: `fingerprint` of everything that the result depends on.
        make: returns JSON values only.
        folder: where a new entry goes (default: your own store).
    """
    name = key(settings, code)
    if (entry := entries(study).get(name)) is not None:
        return entry["result"]
    result = make(**settings)
    folder = home() / "measured" if folder is None else folder
    folder.mkdir(parents=True, exist_ok=True)
    line = json.dumps({"key": name, "settings": settings, "result": result})
    with (folder / f"{study}.jsonl").open("a", encoding="utf-8") as out:
        out.write("\n" + line + "\n")  # one write: several processes may add to one file, and one may have been killed
    return json.loads(line)["result"]
