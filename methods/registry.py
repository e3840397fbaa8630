"""Which methods there are: the files of this folder, and files of a user's own."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import importlib
import importlib.util
import inspect
import sys
import traceback
from functools import cache
from pathlib import Path
from types import ModuleType

from methods.method import Info, Method, MethodClass

HERE = Path(__file__).parent


@cache
def builtin_methods() -> dict[str, MethodClass]:
    """Every method of this folder by its key, in the order of the file names."""
    found: dict[str, MethodClass] = {}
    for path in sorted(HERE.glob("*.py")):
        if path.stem != "__init__":
            for method in _methods_in(importlib.import_module(f"methods.{path.stem}")):
                assert method.key not in found, f"{path.name}: the key {method.key} is taken"
                found[method.key] = method
    return found


def find_methods(entries: str, task: str) -> list[MethodClass]:
    """Resolve a list such as "finetune,mib,path/to/my_method.py" or "all".

    Raises ValueError on a name that is not known (with the nearest ones) and on a file that holds no
    method; FileNotFoundError where the file is missing.
    """
    known = {key: m for key, m in builtin_methods().items() if task in m.info.tasks}
    chosen: dict[str, MethodClass] = {}
    for entry in filter(None, (part.strip() for part in entries.split(","))):
        if entry == "all":
            methods = list(known.values())
        elif entry.endswith(".py"):
            methods = _load_file(Path(entry))
        else:
            methods = [_by_name(entry, known, task)]
        for method in methods:
            other = chosen.setdefault(method.key, method)
            if other is not method:
                raise ValueError(
                    f"{entry}: the key {method.key!r} is taken already; give the method another key"
                )
    if not chosen:
        raise ValueError(f"--methods {entries!r} names no method; known are: {', '.join(known)}")
    return list(chosen.values())


def source_of(method: MethodClass) -> Path:
    """The file that defines the method."""
    return Path(inspect.getfile(method)).resolve()


def origin(method: MethodClass) -> str:
    """ "built-in", or the name of the user's file."""
    path = source_of(method)
    return "built-in" if path.parent == HERE.resolve() else f"file: {path.name}"


def _by_name(name: str, known: dict[str, MethodClass], task: str) -> MethodClass:
    """`finetune@mask2former` names the network; plain `finetune` means the one that the task asks for."""
    if name in known:
        return known[name]
    wanted, _, network = name.partition("@")
    for key, method in known.items():
        if key.partition("@")[0] == wanted and network in ("", method.family):
            return method
    if name in builtin_methods():
        raise ValueError(f"method {name!r} does not do the task {task!r}; these do: {', '.join(known)}")
    near = difflib.get_close_matches(name, known, n=3)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise ValueError(f"unknown method {name!r}: {hint}known are: {', '.join(known)}, or a path to a .py file")


def _load_file(path: Path) -> list[MethodClass]:
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such method file; give the path to a .py file, or a name of `ls methods`"
        )
    path = path.resolve()
    name = f"user_method_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if name not in sys.modules:
        _execute(path, name)
    methods = _methods_in(sys.modules[name])
    if not methods:
        raise ValueError(
            f"{path}: defines no subclass of methods.method.Method with a `key`; see CONTRIBUTING.md"
        )
    for method in methods:
        _check(method, path)
    clash = [m.key for m in methods if m.key in builtin_methods()]
    if clash:
        raise ValueError(f"{path}: the key {clash[0]!r} is that of a built-in method; give it another")
    return methods


def _check(method: MethodClass, path: Path) -> None:
    where = f"{path}, class {method.__name__}"
    if not isinstance(getattr(method, "info", None), Info):
        raise ValueError(f"{where}: set info = Info(title), from methods.method")
    for field in dataclasses.fields(Info):
        value = getattr(method.info, field.name)
        if type(value) is not type(getattr(Info("", tasks=()), field.name)):
            raise ValueError(
                f"{where}: info.{field.name} = {value!r} is of the wrong type; see methods/method.py"
            )
    if not dataclasses.is_dataclass(method.Hyperparameters):
        raise ValueError(
            f"{where}: Hyperparameters must be a dataclass; write @dataclass(frozen=True) above it"
        )


def _execute(path: Path, name: str) -> None:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        line = getattr(error, "lineno", None) or _last_line_in(error, path)
        raise ValueError(
            f"{path}, line {line}: {type(error).__name__}: {error}; mend the method file"
        ) from error


def _last_line_in(error: Exception, path: Path) -> int | str:
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(path)]
    return lines[-1] or "?" if lines else "?"


def _methods_in(module: ModuleType) -> list[MethodClass]:
    return [
        value
        for value in vars(module).values()
        if inspect.isclass(value)
        and issubclass(value, Method)
        and not inspect.isabstract(value)
        and value.__module__ == module.__name__
        and "key" in vars(value)
    ]
