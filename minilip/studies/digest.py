"""A digest of a computation: of the function that makes a result, and of all code of ours that it reaches.

The source is read, never run. Names are followed from a function through its module and its imports to functions,
classes and constants of minilip, and from there on. What the tests hold against an oracle is not followed (`TESTED`),
so that a clearer error message in a loss costs no hour of measuring; of what draws data, only the constants are
(`DRAWN`). Left out are words (comments, docstrings, messages, labels of progress bars, types), the places of files,
and what a constant is called. The digest is the same under every Python.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import minilip
from minilip.studies.source import DEFINITIONS, PACKAGE, Entity, Module, Part, Walk, read

# Modules, and single names of modules, that the tests compare with an oracle: they count by their name alone.
TESTED = (
    *("minilip._check", "minilip._files", "minilip.nn", "minilip.training", "minilip.evaluation"),
    *(
        "minilip.infonce",
        "minilip.cpc",
        "minilip.tiled",
        "minilip.simclr",
        "minilip.hypersphere",
        "minilip.vicreg",
        "minilip.mae",
        "minilip.lie",
        "minilip.clip",
        "minilip.limber",
    ),
    *("minilip.protoclip", "minilip.prolip.model", "minilip.prolip.inclusion", "minilip.blip"),
    *("minilip.compositionality",),
    *("minilip.data.fetch", "minilip.data.locks", "minilip.data.home"),
    *("minilip.data.archives", "minilip.data.speech"),
    *("minilip.studies.store", "minilip.studies.digest"),
)
# Tested too, but what they draw is a choice: the constants that their code uses count as well.
DRAWN = tuple(f"minilip.data.{name}" for name in ("emoji", "scenes", "latents", "drawing", "pretrained", "cache"))


def fingerprint(make: Callable[..., Any]) -> str:
    """Twelve hexadecimal digits that change with the code that `make`, a function at the top of a module, reaches.

    Raises:
        LookupError: a name cannot be followed: one from a star import, or a module that is handed on as a value.
    """
    module = sys.modules[make.__module__]
    name = module.__spec__.name if make.__module__ == "__main__" and module.__spec__ else make.__module__
    return digest(f"{name}.{make.__qualname__}", Path(minilip.__file__).parent, module.__file__)


def digest(name: str, root: Path, file: str | Path | None = None) -> str:
    """As `fingerprint`, by the function's whole name, from the source under `root`, which is minilip's folder.

    Args:
        name: such as "minilip.studies.lie.route.measure".
        file: of the function's module, where that is no part of minilip.
    """
    code = _Code(root, name.rpartition(".")[0], file)
    first, rest = code.resolve(name)
    if not isinstance(first, Entity) or rest:
        raise LookupError(f"{name}: expected a function at the top of a module that is followed")
    return _combined(code, first)


class _Code:
    """Modules by name, read when they are needed, and what their names stand for."""

    def __init__(self, root: Path, module: str, file: str | Path | None):
        self.root, self.outside = root, {}
        if module.split(".")[0] != PACKAGE and file is not None:
            self.outside[module] = Path(file)

    def module(self, name: str) -> Module | None:
        path = self.outside.get(name)
        if name.split(".")[0] == PACKAGE:
            path = self.root.joinpath(*name.split(".")[1:])
            path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        return read(name, path, path.stat().st_mtime_ns) if path is not None and path.is_file() else None

    def resolve(self, dotted: str) -> tuple[Part, list[str]]:
        """An entity and attributes of it; or the name alone, of what is tested or installed."""
        parts = dotted.split(".")
        n = next((n for n in range(len(parts), 0, -1) if self.module(".".join(parts[:n]))), 0)
        if n == 0:
            return dotted, []
        name, rest = ".".join(parts[:n]), parts[n:]
        if _within(dotted, TESTED):
            return ".".join(rest or parts[-1:]), []
        if not rest:
            raise LookupError(f"{dotted}: a module that is handed on as a value cannot be followed")
        module = self.module(name)
        assert module is not None
        if rest[0] in module.statements:
            return Entity(name, rest[0]), rest[1:]
        if rest[0] in module.imports:
            return self.resolve(".".join([module.imports[rest[0]], *rest[1:]]))
        raise LookupError(f"{dotted}: no such name at the top of {name}")

    def drawn(self, entity: Entity) -> bool:
        """Whether only the constants under it count."""
        module = self.module(entity.module)
        assert module is not None
        return _within(entity.module, DRAWN) and isinstance(module.statements[entity.name][0], DEFINITIONS)

    def parts(self, entity: Entity) -> list[Part]:
        module = self.module(entity.module)
        assert module is not None
        return [p for s in module.statements[entity.name] for p in Walk(self.resolve, module, entity.name).tree(s)]

    def content(self, entity: Entity) -> tuple[str, list[Entity]]:
        """The text of an entity with an @ for each entity that it names, and these; of drawn data, all constants."""
        if not self.drawn(entity):
            parts = self.parts(entity)
            text = "".join(p if isinstance(p, str) else "@" for p in parts)
            return text, [p for p in parts if isinstance(p, Entity)]
        todo, seen = [entity], {entity}
        while todo:
            new = {p for p in self.parts(todo.pop()) if isinstance(p, Entity)} - seen
            seen |= new
            todo += [p for p in new if self.drawn(p)]
        return entity.name, [p for p in seen if not self.drawn(p)]


def _within(name: str, those: tuple[str, ...]) -> bool:
    return any(name == each or name.startswith(each + ".") for each in those)


def _combined(code: _Code, first: Entity) -> str:
    """One digest of an entity and of all that it reaches."""
    contents: dict[Entity, tuple[str, list[Entity]]] = {}
    todo = [first]
    while todo:
        entity = todo.pop()
        if entity not in contents:
            contents[entity] = code.content(entity)
            todo += contents[entity][1]
    hashes, kinds = {e: _hash(text) for e, (text, _) in contents.items()}, 0
    # A name counts as the content of what it means: refined until nothing new can be told apart.
    while len(set(hashes.values())) > kinds:
        kinds, before = len(set(hashes.values())), hashes
        hashes = {}
        for e, (text, named) in contents.items():
            below = [before[n] for n in named]
            hashes[e] = _hash(text, *(sorted(below) if code.drawn(e) else below))
    return _hash(hashes[first], *sorted(set(hashes.values())))[:12]


def _hash(*parts: str) -> str:
    return sha256("\n".join(parts).encode()).hexdigest()
