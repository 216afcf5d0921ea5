"""Which lines of the crate a program of its own reaches: a breakpoint on each, taken away when hit.

The debug information (DWARF 4, by `readelf`) says which addresses a line has; a breakpoint is one
byte. The program then runs at its own speed but for the first visit of each place. Needs Linux on
x86-64 and nothing that is not there with a compiler: the toolchain has no coverage tools (the
profile format of its LLVM is newer than Debian's), and this asks for none. Lines that the compiler
left no code for do not count, nor do those of functions that were not linked.
"""

import ctypes
import os
import re
import signal
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

_TRACEME, _CONT, _GETREGS, _SETREGS, _SETOPTIONS = 0, 7, 12, 13, 0x4200
_TRACE_CLONE, _EXIT_KILL = 0x8, 0x100000
_WALL = 0x40000000
_TRAP = 0xCC
_RIP = 16
_REGISTERS = 27
_OFFSET = re.compile(r"^  Offset: +0x([0-9a-f]+)")
_FILE = re.compile(r"^  (\d+)\t(\d+)\t\d+\t\d+\t(\S+)$")
_FOLDER = re.compile(r"^  (\d+)\t(\S+)$")
_PLACED = re.compile(r"\]  Extended opcode 2: set Address to 0x([0-9a-f]+)")
_ADVANCED = re.compile(r"\]  Advance PC by (?:constant |fixed size amount )?\d+ to 0x([0-9a-f]+)")
_LINE = re.compile(r"\]  Advance Line by -?\d+ to (\d+)")
_FILE_SET = re.compile(r"\]  Set File Name to entry (\d+)")
_STATEMENT = re.compile(r"\]  Set is_stmt to (\d)")
_SPECIAL = re.compile(r"\]  Special opcode .* to 0x([0-9a-f]+) and Line by -?\d+ to (\d+)")
_ROW = re.compile(r"\]  (?:Copy|Special opcode)")

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


def line_addresses(program: Path, crate: str) -> dict[tuple[str, int], set[int]]:
    """(file, line) of the code that was compiled in a folder called `crate`, to its addresses.

    Raises CalledProcessError where `readelf` does not understand the program.
    """
    wanted = _tables_of(program, crate)
    found: dict[tuple[str, int], set[int]] = defaultdict(set)
    machine, offset = _LineMachine(), -1
    for row in _readelf(program, "rawline"):
        if head := _OFFSET.match(row):
            machine, offset = _LineMachine(), int(head[1], 16)
        elif offset in wanted and machine.takes(row):
            found[machine.files[machine.file], machine.line].add(machine.address)
    return found


class _LineMachine:
    """The state machine of one line table (DWARF 4, 6.2.2), fed with what `readelf` says of it."""

    def __init__(self) -> None:
        self.files: dict[str, str] = {}
        self._folders = {"0": ""}
        self._begin()

    def _begin(self) -> None:
        self.file, self.line, self.address = "1", 1, 0
        self._statement = self._linked = True

    def takes(self, row: str) -> bool:
        """Whether this row of the program says: here begins a statement's code."""
        if entry := _FILE.match(row):
            self.files[entry[1]] = f"{self._folders[entry[2]]}/{entry[3]}"
        elif entry := _FOLDER.match(row):
            self._folders[entry[1]] = entry[2]
        elif "End of Sequence" in row:
            self._begin()
        else:
            self._moves(row)
        return bool(_ROW.search(row)) and self._statement and self._linked and self.line > 0

    def _moves(self, row: str) -> None:
        if special := _SPECIAL.search(row):
            self.address, self.line = int(special[1], 16), int(special[2])
        elif change := _PLACED.search(row):
            self.address = int(change[1], 16)
            self._linked = self.address > 0
        elif change := _ADVANCED.search(row):
            self.address = int(change[1], 16)
        elif change := _LINE.search(row):
            self.line = int(change[1])
        elif change := _FILE_SET.search(row):
            self.file = change[1]
        elif change := _STATEMENT.search(row):
            self._statement = change[1] == "1"


def _tables_of(program: Path, crate: str) -> set[int]:
    """Where the line tables of the crate's compilation units begin."""
    found: set[int] = set()
    table = -1
    for row in _readelf(program, "info", "--dwarf-depth=1"):
        if "DW_AT_stmt_list" in row:
            table = int(row.split()[-1], 16)
        elif "DW_AT_comp_dir" in row and row.rstrip().endswith(crate):
            found.add(table)
    return found


def _readelf(program: Path, what: str, *more: str) -> list[str]:
    words = ["readelf", f"--debug-dump={what}", *more, "-W", str(program)]
    done = subprocess.run(
        words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True
    )
    return done.stdout.splitlines()


def reached(
    program: Path, arguments: Sequence[str], environment: Mapping[str, str], *, crate: str
) -> tuple[int, dict[str, tuple[int, int]], dict[str, list[int]]]:
    """Runs the program: exit status, per file (lines reached, lines), and the lines missed."""
    lines = line_addresses(program, crate)
    status, hit = _run(program, arguments, environment, set().union(*lines.values()))
    counts: dict[str, tuple[int, int]] = {}
    missed: dict[str, list[int]] = defaultdict(list)
    for (file, line), addresses in sorted(lines.items()):
        got, total = counts.get(file, (0, 0))
        seen = bool(addresses & hit)
        counts[file] = (got + seen, total + 1)
        if not seen:
            missed[file].append(line)
    return status, counts, missed


def _run(
    program: Path, arguments: Sequence[str], environment: Mapping[str, str], places: Iterable[int]
) -> tuple[int, set[int]]:
    pid = os.fork()
    if pid == 0:
        _libc.ptrace(_TRACEME, 0, None, None)
        os.execve(program, [str(program), *arguments], dict(environment))
    os.waitpid(pid, 0)
    _ptrace(_SETOPTIONS, pid, _TRACE_CLONE | _EXIT_KILL)
    base = _base(pid, program)
    with open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:  # noqa: PTH123
        before = {}
        for place in places:
            memory.seek(base + place)
            before[base + place] = memory.read(1)
            memory.seek(base + place)
            memory.write(bytes([_TRAP]))
        hit: set[int] = set()
        _ptrace(_CONT, pid, 0)
        status = _follow(pid, memory, before, hit)
    return status, {place - base for place in hit}


def _follow(pid: int, memory: Any, before: Mapping[int, bytes], hit: set[int]) -> int:
    """Until the program ends; its exit status, negative for a signal."""
    while True:
        thread, status = os.waitpid(-1, _WALL)
        if os.WIFEXITED(status) or os.WIFSIGNALED(status):
            if thread == pid:
                return os.waitstatus_to_exitcode(status)
            continue
        passed_on = os.WSTOPSIG(status)
        if passed_on == signal.SIGTRAP:
            passed_on = 0
            if status >> 16 == 0:
                _step_back(thread, memory, before, hit)
        elif passed_on == signal.SIGSTOP:
            passed_on = 0
        _ptrace(_CONT, thread, passed_on)


def _step_back(thread: int, memory: Any, before: Mapping[int, bytes], hit: set[int]) -> None:
    """Puts the byte back that the breakpoint stood on, and lets the thread run it."""
    registers = (ctypes.c_ulong * _REGISTERS)()
    _ptrace(_GETREGS, thread, registers)
    at = registers[_RIP] - 1
    if at not in before:
        return
    hit.add(at)
    memory.seek(at)
    memory.write(before[at])
    registers[_RIP] = at
    _ptrace(_SETREGS, thread, registers)


def _base(pid: int, program: Path) -> int:
    """Where the program was loaded: its addresses are relative to that."""
    name = str(program.resolve())
    for row in Path(f"/proc/{pid}/maps").read_text().splitlines():
        if row.endswith(name):
            return int(row.partition("-")[0], 16)
    raise AssertionError(f"{name} is not mapped")


def _ptrace(request: int, pid: int, data: Any) -> None:
    value = ctypes.cast(data, ctypes.c_void_p) if isinstance(data, ctypes.Array) else data
    if _libc.ptrace(request, pid, None, value) == -1:
        raise OSError(ctypes.get_errno(), f"ptrace {request} of {pid}")
