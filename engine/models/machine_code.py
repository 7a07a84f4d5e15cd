"""The explanation kernel as machine code, made when a process first loads a model, in some 80 ms.

The kernel is written in LLVM's own language, and llvmlite, a wheel, makes code of this machine from it: no
compiler is installed or started. Its sums go in the order of `engine.models.plain`, and LLVM may neither fuse
nor reorder them, so both give the same bits on every machine.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import structlog

from engine.models.forests import LANES, Forests
from engine.models.trees import Floats, Rows
from engine.models.walk_code import WALK

_log = structlog.get_logger("engine.models.machine_code")

_Explain = Callable[[int, int, int, int, int], None]
"""Addresses of the `%model`, of scratch memory and of the rows; how many rows; the address of the result."""
_Walk = Callable[[int, int, int, int], None]
"""Addresses of the `%walk` and of the row; who asks; the address of the sums."""
_LANES_BYTES: Final = 8 * LANES
_ALIGNED: Final = 64
_FASTEST: Final = 3
_BRIEF: Final = 16
"""Rows up to which the interpreter's lock is kept: they take a millisecond at most, and getting the lock back
from a busy thread can take five."""


@dataclass(frozen=True, slots=True, eq=False)
class MachineCode:
    """The kernel, twice: `brief` keeps the interpreter's lock, `long` lets other threads run meanwhile.

    `walk` is what scores one row (`engine.models.walking`); it keeps the lock. `engine` owns the memory the code is in.
    """

    brief: _Explain
    long: _Explain
    walk: _Walk
    engine: object


class MachineKernel:
    """Explains rows of one ensemble with machine code."""

    def __init__(self, code: MachineCode, forests: Forests, *, input_count: int) -> None:
        arrays = (forests.splits, forests.firsts, forests.roots, forests.factors, forests.weights)
        counts = (len(forests.roots), input_count, forests.most_slots)
        self._forests = forests  # the arrays must live as long as their addresses
        self._code = code
        self._model = np.array([*(array.ctypes.data for array in arrays), *counts], dtype=np.int64)
        self._model_at = self._model.ctypes.data
        branches = 1 + 2 * forests.most_splits
        scratch_bytes = (input_count + forests.most_slots) * _LANES_BYTES + branches + _ALIGNED
        self._scratch = ctypes.c_byte * scratch_bytes

    def explain(self, rows: Rows, found: Floats) -> None:
        """Puts the share of each input into all but the last column of `found`, which is C-contiguous."""
        if not len(rows):
            return
        values = np.array(rows, dtype=np.float32, order="C")  # our own, so that it may be looked at
        scratch = self._scratch()
        aligned = -(-ctypes.addressof(scratch) // _ALIGNED) * _ALIGNED
        run = self._code.brief if len(values) <= _BRIEF else self._code.long
        run(self._model_at, aligned, _address(values), len(values), _address(found))


def _address(array: Rows | Floats) -> int:
    """Where an array's numbers begin; a fifth of the time of `array.ctypes.data`."""
    return ctypes.addressof(ctypes.c_char.from_buffer(array))  # type: ignore[arg-type]  # it is a buffer


@cache
def machine_code() -> MachineCode | None:
    """The kernel; None, with a warning, where this machine allows no new code or llvmlite is missing."""
    if not _may_run_new_code():
        _log.warning("explanations.slow", cause="the system refuses to run code made here")
        return None
    try:
        engine, explain, walk = _compile()
    except Exception as error:  # whatever keeps the fast kernel away, the plain one explains the same
        _log.warning("explanations.slow", cause=f"{type(error).__name__}: {error}")
        return None
    _let_go("libllvmlite")
    signature = (None, *(ctypes.c_void_p,) * 3, ctypes.c_int64, ctypes.c_void_p)
    return MachineCode(
        brief=ctypes.PYFUNCTYPE(*signature)(explain),
        long=ctypes.CFUNCTYPE(*signature)(explain),
        walk=ctypes.PYFUNCTYPE(None, *(ctypes.c_void_p,) * 2, ctypes.c_uint64, ctypes.c_void_p)(walk),
        engine=engine,
    )


def _compile() -> tuple[Any, int, int]:
    """LLVM's engine, and the addresses of the kernel and of the walk in it."""
    import llvmlite.binding as llvm  # a large library: only for those who explain

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    module = llvm.parse_assembly(KERNEL + WALK)
    module.verify()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=_FASTEST
    )
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    explain, walk = (int(engine.get_function_address(name)) for name in ("explain", "walk"))
    return engine, explain, walk


def _may_run_new_code() -> bool:
    """Whether memory that was written may become code, which hardened systems refuse."""
    with mmap.mmap(-1, mmap.PAGESIZE) as page:
        here = ctypes.c_char.from_buffer(page)
        try:
            allowed = mmap.PROT_READ | mmap.PROT_EXEC
            refused = _system("mprotect")(ctypes.addressof(here), mmap.PAGESIZE, allowed)
        finally:
            del here  # a page that is looked at cannot be closed
    return not refused


def _let_go(library: str) -> None:
    """Gives back the pages of a library's file that nobody changed, 65 MB of LLVM's, after its last use.

    Should it be used again after all, they are read again. Only Linux tells where they are.
    """
    maps = Path("/proc/self/maps")
    lines = maps.read_text(encoding="utf-8").splitlines() if maps.exists() else []
    for line in lines:
        place, rights, offset, *_ = line.split()
        code, constants = rights == "r-xp", rights == "r--p" and int(offset, 16) == 0
        if library in line and (code or constants):
            start, end = (int(address, 16) for address in place.split("-"))
            _system("madvise")(start, end - start, mmap.MADV_DONTNEED)


def _system(name: str) -> Callable[[int, int, int], int]:
    """A function of the C library: an address, a length, and what of it is wanted; 0 where that is done."""
    function = ctypes.CDLL(None)[name]
    function.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    found: Callable[[int, int, int], int] = function
    return found


KERNEL: Final = """
%split = type { i32, float, i32, i32, i32, i32 } ; input, threshold, left, right, before, missing_left
%model = type { ptr, ptr, ptr, ptr, ptr, i64, i64, i64 } ; splits to weights; how many forests, inputs, slots

declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)

; What engine.models.plain does, on what engine.models.forests lays out: a forest or more, an input or more.
; Scratch memory: the sums of each input, 4 lanes; the slots, 4 lanes; a byte for each branch. A row of the
; result has one number more than there are inputs. Pointers are trusted: trees and rows were checked before.
define void @explain(ptr %model, ptr %scratch, ptr %rows, i64 %count, ptr %out) {
entry:
  %splits = load ptr, ptr %model
  %firsts.at = getelementptr %model, ptr %model, i64 0, i32 1
  %firsts = load ptr, ptr %firsts.at
  %roots.at = getelementptr %model, ptr %model, i64 0, i32 2
  %roots = load ptr, ptr %roots.at
  %factors.at = getelementptr %model, ptr %model, i64 0, i32 3
  %factors = load ptr, ptr %factors.at
  %weights.at = getelementptr %model, ptr %model, i64 0, i32 4
  %weights = load ptr, ptr %weights.at
  %forests.at = getelementptr %model, ptr %model, i64 0, i32 5
  %forests = load i64, ptr %forests.at
  %inputs.at = getelementptr %model, ptr %model, i64 0, i32 6
  %inputs = load i64, ptr %inputs.at
  %slots.at = getelementptr %model, ptr %model, i64 0, i32 7
  %slots.count = load i64, ptr %slots.at
  %sums.bytes = mul i64 %inputs, 32
  %width = add i64 %inputs, 1
  %slots = getelementptr <4 x double>, ptr %scratch, i64 %inputs
  %taken = getelementptr <4 x double>, ptr %slots, i64 %slots.count
  %any = icmp sgt i64 %count, 0
  br i1 %any, label %row, label %done

row:
  %i = phi i64 [0, %entry], [%i.next, %row.end]
  %x.offset = mul i64 %i, %inputs
  %x = getelementptr float, ptr %rows, i64 %x.offset
  %o.offset = mul i64 %i, %width
  %o = getelementptr double, ptr %out, i64 %o.offset
  call void @llvm.memset.p0.i64(ptr align 32 %scratch, i8 0, i64 %sums.bytes, i1 false)
  store i8 1, ptr %taken ; branch 0: no split on the input yet
  br label %forest

forest:
  %f = phi i64 [0, %row], [%f.next, %forest.end]
  %first.at = getelementptr i64, ptr %firsts, i64 %f
  %first = load i64, ptr %first.at
  %last.at = getelementptr i64, ptr %first.at, i64 1
  %last = load i64, ptr %last.at
  %size = sub i64 %last, %first
  %root.at = getelementptr i64, ptr %roots, i64 %f
  %root.count = load i64, ptr %root.at
  %here = getelementptr %split, ptr %splits, i64 %first
  %first.row = mul i64 %first, 6 ; 3 states of 2 branches
  %f.factors = getelementptr <4 x double>, ptr %factors, i64 %first.row
  %f.weights = getelementptr <4 x double>, ptr %weights, i64 %first.row
  br label %root

root:
  %r = phi i64 [0, %forest], [%r.next, %root]
  %r.at = getelementptr <4 x double>, ptr %slots, i64 %r
  store <4 x double> <double 1.0, double 1.0, double 1.0, double 1.0>, ptr %r.at, align 32
  %r.next = add i64 %r, 1
  %r.more = icmp slt i64 %r.next, %root.count
  br i1 %r.more, label %root, label %down

down: ; from the roots: what each branch's inputs multiply to
  %k = phi i64 [0, %root], [%k.next, %down]
  %d.input.at = getelementptr %split, ptr %here, i64 %k
  %d.input = load i32, ptr %d.input.at
  %threshold.at = getelementptr %split, ptr %here, i64 %k, i32 1
  %threshold = load float, ptr %threshold.at
  %d.left.at = getelementptr %split, ptr %here, i64 %k, i32 2
  %d.left = load i32, ptr %d.left.at
  %d.right.at = getelementptr %split, ptr %here, i64 %k, i32 3
  %d.right = load i32, ptr %d.right.at
  %before.at = getelementptr %split, ptr %here, i64 %k, i32 4
  %before = load i32, ptr %before.at
  %missing.at = getelementptr %split, ptr %here, i64 %k, i32 5
  %missing = load i32, ptr %missing.at
  %d.input.64 = zext i32 %d.input to i64
  %value.at = getelementptr float, ptr %x, i64 %d.input.64
  %value = load float, ptr %value.at
  %is.nan = fcmp uno float %value, %value
  %at.most = fcmp ole float %value, %threshold
  %missing.left = trunc i32 %missing to i1
  %nan.left = and i1 %is.nan, %missing.left
  %goes.left = or i1 %at.most, %nan.left
  %before.64 = zext i32 %before to i64
  %open.at = getelementptr i8, ptr %taken, i64 %before.64
  %open = load i8, ptr %open.at
  %goes.left.8 = zext i1 %goes.left to i8
  %goes.right.8 = xor i8 %goes.left.8, 1
  %takes.left = and i8 %goes.left.8, %open
  %takes.right = and i8 %goes.right.8, %open
  %d.branch = shl i64 %k, 1
  %d.branch.at = getelementptr i8, ptr %taken, i64 %d.branch
  %d.taken.left = getelementptr i8, ptr %d.branch.at, i64 1
  store i8 %takes.left, ptr %d.taken.left
  %d.taken.right = getelementptr i8, ptr %d.branch.at, i64 2
  store i8 %takes.right, ptr %d.taken.right
  %d.right.twice = shl i8 %takes.right, 1
  %d.state = or i8 %takes.left, %d.right.twice
  %d.state.64 = zext i8 %d.state to i64
  %d.states = mul i64 %k, 3
  %d.row = add i64 %d.states, %d.state.64
  %factor.left.at = getelementptr [2 x <4 x double>], ptr %f.factors, i64 %d.row
  %factor.left = load <4 x double>, ptr %factor.left.at, align 32
  %factor.right.at = getelementptr [2 x <4 x double>], ptr %f.factors, i64 %d.row, i64 1
  %factor.right = load <4 x double>, ptr %factor.right.at, align 32
  %product.at = getelementptr <4 x double>, ptr %slots, i64 %k
  %product = load <4 x double>, ptr %product.at, align 32
  %product.left = fmul <4 x double> %product, %factor.left
  %product.right = fmul <4 x double> %product, %factor.right
  %d.left.64 = zext i32 %d.left to i64
  %d.slot.left = getelementptr <4 x double>, ptr %slots, i64 %d.left.64
  store <4 x double> %product.left, ptr %d.slot.left, align 32
  %d.right.64 = zext i32 %d.right to i64
  %d.slot.right = getelementptr <4 x double>, ptr %slots, i64 %d.right.64
  store <4 x double> %product.right, ptr %d.slot.right, align 32
  %k.next = add i64 %k, 1
  %k.more = icmp slt i64 %k.next, %size
  br i1 %k.more, label %down, label %up

up: ; from the leaves: what is below each branch adds up to, and what that gives the split's input
  %j.after = phi i64 [%size, %down], [%j, %up]
  %j = sub i64 %j.after, 1
  %u.input.at = getelementptr %split, ptr %here, i64 %j
  %u.input = load i32, ptr %u.input.at
  %u.left.at = getelementptr %split, ptr %here, i64 %j, i32 2
  %u.left = load i32, ptr %u.left.at
  %u.right.at = getelementptr %split, ptr %here, i64 %j, i32 3
  %u.right = load i32, ptr %u.right.at
  %u.branch = shl i64 %j, 1
  %u.branch.at = getelementptr i8, ptr %taken, i64 %u.branch
  %u.taken.left.at = getelementptr i8, ptr %u.branch.at, i64 1
  %u.taken.left = load i8, ptr %u.taken.left.at
  %u.taken.right.at = getelementptr i8, ptr %u.branch.at, i64 2
  %u.taken.right = load i8, ptr %u.taken.right.at
  %u.right.twice = shl i8 %u.taken.right, 1
  %u.state = or i8 %u.taken.left, %u.right.twice
  %u.state.64 = zext i8 %u.state to i64
  %u.states = mul i64 %j, 3
  %u.row = add i64 %u.states, %u.state.64
  %weight.left.at = getelementptr [2 x <4 x double>], ptr %f.weights, i64 %u.row
  %weight.left = load <4 x double>, ptr %weight.left.at, align 32
  %weight.right.at = getelementptr [2 x <4 x double>], ptr %f.weights, i64 %u.row, i64 1
  %weight.right = load <4 x double>, ptr %weight.right.at, align 32
  %u.left.64 = zext i32 %u.left to i64
  %u.slot.left = getelementptr <4 x double>, ptr %slots, i64 %u.left.64
  %below.left = load <4 x double>, ptr %u.slot.left, align 32
  %u.right.64 = zext i32 %u.right to i64
  %u.slot.right = getelementptr <4 x double>, ptr %slots, i64 %u.right.64
  %below.right = load <4 x double>, ptr %u.slot.right, align 32
  %below = fadd <4 x double> %below.left, %below.right
  %u.slot = getelementptr <4 x double>, ptr %slots, i64 %j
  store <4 x double> %below, ptr %u.slot, align 32
  %given.left = fmul <4 x double> %below.left, %weight.left
  %given.right = fmul <4 x double> %below.right, %weight.right
  %given = fadd <4 x double> %given.left, %given.right
  %u.input.64 = zext i32 %u.input to i64
  %sum.at = getelementptr <4 x double>, ptr %scratch, i64 %u.input.64
  %sum = load <4 x double>, ptr %sum.at, align 32
  %sum.next = fadd <4 x double> %sum, %given
  store <4 x double> %sum.next, ptr %sum.at, align 32
  %j.more = icmp sgt i64 %j, 0
  br i1 %j.more, label %up, label %forest.end

forest.end:
  %f.next = add i64 %f, 1
  %f.more = icmp slt i64 %f.next, %forests
  br i1 %f.more, label %forest, label %input

input:
  %c = phi i64 [0, %forest.end], [%c.next, %input]
  %lanes.at = getelementptr <4 x double>, ptr %scratch, i64 %c
  %lanes = load <4 x double>, ptr %lanes.at, align 32
  %lane.0 = extractelement <4 x double> %lanes, i32 0
  %lane.1 = extractelement <4 x double> %lanes, i32 1
  %lane.2 = extractelement <4 x double> %lanes, i32 2
  %lane.3 = extractelement <4 x double> %lanes, i32 3
  %lane.01 = fadd double %lane.0, %lane.1
  %lane.23 = fadd double %lane.2, %lane.3
  %share = fadd double %lane.01, %lane.23
  %share.at = getelementptr double, ptr %o, i64 %c
  store double %share, ptr %share.at
  %c.next = add i64 %c, 1
  %c.more = icmp slt i64 %c.next, %inputs
  br i1 %c.more, label %input, label %row.end

row.end:
  %i.next = add i64 %i, 1
  %i.more = icmp slt i64 %i.next, %count
  br i1 %i.more, label %row, label %done

done:
  ret void
}
"""
