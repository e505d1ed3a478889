"""Python source as text that is the same for the same computation, and the names of other things in it.

Left out are words (comments, docstrings, messages, labels of progress bars, types) and what a constant is called. What
Python's versions write differently into a syntax tree is written in one way.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

PACKAGE = "minilip"
SHOWN = {"fit": ("label", "progress"), "tqdm": ("desc", "leave", "unit")}  # arguments that only a screen sees
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


class Entity(NamedTuple):
    """A function, a class or a constant at the top of a module that is followed."""

    module: str
    name: str


Part = str | Entity  # code is a list of texts and of what is meant by names


# ---- modules and scopes ------------------------------------------------------------------------------------------


class Module(NamedTuple):
    name: str
    statements: dict[str, list[ast.stmt]]  # what binds each name at the top
    imports: dict[str, str]  # name -> dotted name


@lru_cache(maxsize=256)
def read(name: str, path: Path, _modified: int) -> Module:
    """The module in a file, read again when the file has changed."""
    module = Module(name, {}, {})
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for statement in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.If) and "__name__" in ast.dump(statement.test):
            continue  # the command
        imported = _imports([statement], package)
        module.imports.update(imported)
        for bound in _bound([statement]):
            if bound not in imported:
                module.statements.setdefault(bound, []).append(_own(statement, bound))
    return module


def _own(statement: ast.stmt, name: str) -> ast.stmt:
    """Of `A, B = 1, 2` what belongs to one of the names: another seed changes no number of steps beside it."""
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        target, value = statement.targets[0], statement.value
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
            for one, of_it in zip(target.elts, value.elts, strict=True):
                if isinstance(one, ast.Name) and one.id == name and not isinstance(of_it, ast.Starred):
                    return ast.Assign([one], of_it)
    return statement


def _imports(body: list[Any], package: str) -> dict[str, str]:
    """What imports in these statements, but not in definitions among them, bind."""
    found: dict[str, str] = {}
    for node in body:
        if isinstance(node, ast.Import):
            for a in node.names:
                found[a.asname or a.name.split(".")[0]] = a.name if a.asname else a.name.split(".")[0]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found |= {a.asname or a.name: f"{base}.{a.name}" for a in node.names}
        elif isinstance(node, ast.stmt) and not isinstance(node, DEFINITIONS):
            found |= _imports(list(ast.iter_child_nodes(node)), package)
    return found


def _bound(body: list[Any]) -> Iterator[str]:
    """Names that statements bind in their own scope."""
    for node in body:
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            yield node.id
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from _imports([node], "")
        elif isinstance(node, (*DEFINITIONS, ast.ExceptHandler, ast.MatchAs, ast.MatchStar)) and node.name:
            yield node.name
        elif isinstance(node, ast.MatchMapping) and node.rest:
            yield node.rest
        if isinstance(node, COMPREHENSIONS):
            yield from (w.target.id for w in ast.walk(node) if isinstance(w, ast.NamedExpr))
        elif not isinstance(node, (*DEFINITIONS, ast.Lambda)):
            yield from _bound(list(ast.iter_child_nodes(node)))


def _declared(body: list[Any]) -> Iterator[str]:
    """Names that statements declare global, but not in definitions among them."""
    for node in body:
        if isinstance(node, ast.Global):
            yield from node.names
        elif isinstance(node, (ast.stmt, ast.ExceptHandler, ast.match_case)) and not isinstance(node, DEFINITIONS):
            yield from _declared(list(ast.iter_child_nodes(node)))


# ---- code as texts and entities ----------------------------------------------------------------------------------


class Walk:
    """The code of one name: the same for the same computation, whatever its words and whatever the Python."""

    def __init__(self, resolve: Callable[[str], tuple[Part, list[str]]], module: Module, entity: str):
        self.resolve, self.module, self.entity = resolve, module, entity
        self.scopes: list[tuple[dict[str, str], bool]] = []  # local name -> "" or what it imports; whether of a class

    def tree(self, node: Any) -> list[Part]:
        """Of a node, a list of nodes or a plain value."""
        if isinstance(node, list):
            return ["[", *(p for each in node if not self.silent(each) for p in (*self.tree(each), ",")), "]"]
        if not isinstance(node, ast.AST):
            return [ascii(node)]
        if isinstance(node, (ast.Name, ast.Attribute)):
            return self.name(node)
        if isinstance(node, (*DEFINITIONS, ast.Lambda)):
            return self.definition(node)
        if isinstance(node, COMPREHENSIONS):
            return self.within(dict.fromkeys(_bound([g.target for g in node.generators]), ""), False, node)
        if isinstance(node, ast.Raise):
            return ["Raise", *(self.tree(node.exc.func if isinstance(node.exc, ast.Call) else node.exc))]
        if isinstance(node, ast.Call):
            return self.call(node)
        if isinstance(node, ast.AnnAssign) and not (self.scopes and self.scopes[-1][1]):  # not a field of a dataclass
            return self.tree(ast.Assign([node.target], node.value)) if node.value else []
        if isinstance(node, ast.JoinedStr):
            return self.string(node)
        return self.fields(node)

    def fields(self, node: ast.AST, *without: str) -> list[Part]:
        """As `ast.dump`. A field that only some versions of Python have is empty, and what is empty is left out."""
        parts: list[Part] = [type(node).__name__, "("]
        for field, value in ast.iter_fields(node):
            if value not in (None, []) and field not in ("ctx", "kind", "annotation", "returns", *without):
                parts += [field, "=", *self.tree(value), ","]
        return [*parts, ")"]

    def silent(self, node: Any) -> bool:
        """Whether a statement only speaks, or only refuses bad input."""
        if isinstance(node, ast.Expr):
            value = node.value
            if isinstance(value, ast.Call):
                spoken = self.dotted(value.func)
                return spoken in ("print", "warnings.warn") or spoken.startswith(f"{PACKAGE}._check.")
            return isinstance(value, ast.Constant) and isinstance(value.value, str)
        if isinstance(node, (ast.If, ast.For)):
            return not node.orelse and all(self.silent(each) for each in node.body)
        return isinstance(node, (ast.Assert, ast.Import, ast.ImportFrom))

    def call(self, node: ast.Call) -> list[Part]:
        called = self.dotted(node.func)
        if called == "typing.cast":
            return self.tree(node.args[1])
        shown = SHOWN.get(called.rpartition(".")[2], ())
        kept = [k for k in node.keywords if k.arg not in shown]
        return self.fields(ast.Call(node.func, node.args, kept))

    def string(self, node: ast.JoinedStr) -> list[Part]:
        """An f-string, whose plain parts one Python cuts in other places than the next."""
        parts: list[Part] = ["f("]
        plain = ""
        for each in [*node.values, None]:
            if isinstance(each, ast.Constant):
                plain += str(each.value)
                continue
            parts += [ascii(plain)] * bool(plain) + ([] if each is None else self.tree(each))
            plain = ""
        return [*parts, ")"]

    def definition(self, node: Any) -> list[Part]:
        """Bases, decorators and defaults are read outside; the body in a scope of its own."""
        outside = self.fields(node, "body")
        body = node.body if isinstance(node.body, list) else [node.body]
        names = dict.fromkeys(_bound(body), "") | _imports(body, self.module.name.rpartition(".")[0])
        if not isinstance(node, ast.ClassDef):
            a = node.args
            every = [*a.posonlyargs, *a.args, *a.kwonlyargs, *(x for x in (a.vararg, a.kwarg) if x)]
            names |= {x.arg: "" for x in every}
        for declared in _declared(body):
            names.pop(declared, None)
        return [*outside, *self.within(names, isinstance(node, ast.ClassDef), body)]

    def within(self, names: dict[str, str], of_class: bool, node: Any) -> list[Part]:
        self.scopes.append((names, of_class))
        parts = self.fields(node) if isinstance(node, ast.AST) else self.tree(node)
        self.scopes.pop()
        return parts

    # What a name means.

    def name(self, node: ast.Name | ast.Attribute) -> list[Part]:
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load) and not self.scopes:
            return ["*" if node.id == self.entity else "_"]  # a constant counts, what it is called does not
        dotted = self.dotted(node)
        if not dotted or (isinstance(node, ast.Name) and dotted == node.id and node.id not in self.module.imports):
            return [f"Name({node.id})"] if isinstance(node, ast.Name) else [*self.tree(node.value), f".{node.attr}"]
        part, rest = self.resolve(dotted)
        return [part, *(f".{attribute}" for attribute in rest)]

    def dotted(self, node: ast.AST) -> str:
        """The whole name of what a.b.c stands for; "" where that is local or no name."""
        if isinstance(node, ast.Attribute):
            before = self.dotted(node.value)
            return before and f"{before}.{node.attr}"
        if not isinstance(node, ast.Name):
            return ""
        for i, (names, of_class) in enumerate(reversed(self.scopes)):
            if node.id in names and (i == 0 or not of_class):
                return names[node.id]
        if node.id in self.module.statements:
            return f"{self.module.name}.{node.id}"
        return self.module.imports.get(node.id, node.id)  # or a builtin
