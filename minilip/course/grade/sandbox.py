"""What a learner's process may do to the rest of the machine: nothing, where the system can be asked for that.

`confine` is called by the process itself, between its imports and the first cell, and cannot be taken back. Linux has
all of it without any privilege: Landlock for files, seccomp for sockets, processes and signals, a limit for memory.
Elsewhere there is the limit of memory (not on Windows, and macOS does not keep it), and what remains is the time limit,
the temporary folder and whatever container the grader runs in. `confine` returns what is in force.

Source: the manual pages landlock(7), seccomp(2) and setrlimit(2); linux/landlock.h, linux/seccomp.h.
"""

import ctypes
import os
import platform
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

MEMORY = 2.0  # GB on top of what the imports take
LONGEST = 64_000_000  # bytes of a file that a cell writes

# ---- landlock --------------------------------------------------------------------------------------------------------

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # of system calls, on every architecture
BENEATH = 1  # LANDLOCK_RULE_PATH_BENEATH
EXECUTE, WRITE, READ, LIST = 1 << 0, 1 << 1, 1 << 2, 1 << 3
CHANGES = sum(1 << bit for bit in range(4, 13))  # remove and make files and folders of all kinds
SINCE = {2: 1 << 13, 3: 1 << 14}  # rename across folders; truncate
OF_A_FILE = EXECUTE | WRITE | READ | SINCE[3]
NO_NEW_PRIVILEGES = 38


class _Rules(ctypes.Structure):
    _fields_ = [("files", ctypes.c_uint64)]


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = [("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32)]


def _files(libc: ctypes.CDLL, readable: Iterable[Path], writable: Iterable[Path]) -> bool:
    """From now on this thread, and those it starts, open no other files. Names may be listed anywhere."""
    version = libc.syscall(CREATE_RULESET, None, 0, 1)
    if version < 1:
        return False
    newer = sum(right for since, right in SINCE.items() if version >= since)
    rules = _Rules(EXECUTE | WRITE | READ | LIST | CHANGES | newer)
    handle = libc.syscall(CREATE_RULESET, ctypes.byref(rules), ctypes.sizeof(rules), 0)
    if handle < 0:
        return False
    wanted = [(Path("/"), LIST), (Path(os.devnull), WRITE | READ)]
    wanted += [(path, EXECUTE | READ | LIST) for path in readable] + [(path, rules.files) for path in writable]
    try:
        for path, allowed in wanted:
            if not path.exists():
                continue
            folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
            try:
                rule = _Beneath(allowed & (rules.files if path.is_dir() else OF_A_FILE & rules.files), folder)
                if libc.syscall(ADD_RULE, handle, BENEATH, ctypes.byref(rule), 0):
                    return False
            finally:
                os.close(folder)
        return libc.syscall(RESTRICT_SELF, handle, 0) == 0
    finally:
        os.close(handle)


# ---- seccomp ---------------------------------------------------------------------------------------------------------

# name: (x86_64, aarch64); None where there is no such call
CALLS: dict[str, tuple[int | None, int | None]] = {
    "socket": (41, 198),
    "fork": (57, None),
    "vfork": (58, None),
    "ptrace": (101, 117),
    "tkill": (200, 130),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_send_signal": (424, 424),
    "io_uring_setup": (425, 425),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
}
TO_ITSELF = {"kill": (62, 129), "tgkill": (234, 131), "prlimit64": (302, 261)}  # allowed where the process is its own
CLONE, CLONE3 = (56, 220), 435
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
THREAD = 0x10000  # CLONE_THREAD
EPERM, ENOSYS = 1, 38
ALLOW, ERROR = 0x7FFF0000, 0x00050000
LOAD, EQUAL, ABOVE, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # opcodes of a filter
NUMBER, ARCHITECTURE, FIRST = 0, 4, 16  # where they stand in what a filter is shown
SET_SECCOMP, FILTER = 22, 2


class _Line(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint16), ("yes", ctypes.c_uint8), ("no", ctypes.c_uint8), ("k", ctypes.c_uint32)]


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_uint16), ("lines", ctypes.POINTER(_Line))]


def _program(machine: str, process: int) -> list[tuple[int, int, int, int]]:
    """The filter's lines: opcode, lines to skip if so, if not, operand."""
    column = list(ARCHITECTURES).index(machine)
    refuse, allow = (RETURN, 0, 0, ERROR | EPERM), (RETURN, 0, 0, ALLOW)
    lines = [(LOAD, 0, 0, ARCHITECTURE), (EQUAL, 1, 0, ARCHITECTURES[machine]), refuse, (LOAD, 0, 0, NUMBER)]
    if machine == "x86_64":
        lines += [(ABOVE, 0, 1, 0x40000000), refuse]  # a second table of the same calls
    for numbers in CALLS.values():
        if (number := numbers[column]) is not None:
            lines += [(EQUAL, 0, 1, number), refuse]
    for own in TO_ITSELF.values():
        lines += [(EQUAL, 0, 5, own[column]), (LOAD, 0, 0, FIRST), (EQUAL, 2, 0, process), (EQUAL, 1, 0, 0)]
        lines += [refuse, allow]
    # A thread is made by clone with a flag; clone3 hides its flags: told that there is no such call, libc asks clone.
    lines += [(EQUAL, 0, 4, CLONE[column]), (LOAD, 0, 0, FIRST), (ANY_BIT, 0, 1, THREAD), allow, refuse]
    return [*lines, (EQUAL, 0, 1, CLONE3), (RETURN, 0, 0, ERROR | ENOSYS), allow]


def _calls(libc: ctypes.CDLL) -> bool:
    """From now on no sockets, no processes, no signals to others, and no looking into them."""
    machine = platform.machine()
    if machine not in ARCHITECTURES or sys.byteorder != "little":
        return False
    lines = _program(machine, os.getpid())
    made = (_Line * len(lines))(*(_Line(*line) for line in lines))
    return libc.prctl(SET_SECCOMP, FILTER, ctypes.byref(_Program(len(lines), made)), 0, 0) == 0


# ---- all of it -------------------------------------------------------------------------------------------------------


def _size() -> int:
    """Bytes of address space that this process has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _memory(most: float) -> bool:
    if sys.platform == "win32":
        return False
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (LONGEST, LONGEST))
    if not sys.platform.startswith("linux"):
        return False
    allowed = _size() + int(most * 1e9)
    resource.setrlimit(resource.RLIMIT_AS, (allowed, allowed))
    return True


def _readable() -> Iterator[Path]:
    """What interpreter and library need while cells run; the checks, which hold answers, are imported by now."""
    package = Path(__file__).resolve().parents[2]
    for path in package.iterdir():
        yield from path.iterdir() if path.name == "course" else [path]
    for name in (sys.prefix, sys.base_prefix, "/usr", "/lib", "/lib64", "/bin", "/opt", "/System", "/dev"):
        yield Path(name)
    for name in ("/proc/self", "/proc/meminfo", "/proc/cpuinfo", "/proc/stat", "/sys/devices/system", "/etc/localtime"):
        yield Path(name)
    for name in sys.path:  # packages beside the virtual environment, but no folder that holds more than packages
        if name and Path(name).name in ("site-packages", "dist-packages"):
            yield Path(name)
    matplotlib = sys.modules.get("matplotlib")
    if matplotlib is not None:
        yield Path(matplotlib.get_cachedir())


def confine(folder: Path, memory: float = MEMORY) -> list[str]:
    """Confine this process to a folder, for good. -> which of "memory", "files", "calls" are in force

    Files are read in the interpreter, the packages and this library without its checks, and written in `folder` only.
    No socket is opened, no process started, no other process signalled or looked into.

    Args:
        folder: where files may be written.
        memory: GB that may be used on top of what is used by now.
    """
    held = ["memory"] if _memory(memory) else []
    if not sys.platform.startswith("linux"):
        return held
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0):
        return held
    readable = [path for path in _readable() if path.name != "checks"]
    if _files(libc, readable, [folder]):
        held.append("files")
    if _calls(libc):
        held.append("calls")
    return held
