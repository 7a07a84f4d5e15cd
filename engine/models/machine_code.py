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
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
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
_KEY_BYTES: Final = 4
_ALIGNED: Final = 64
SPLIT: Final[np.dtype[np.void]] = np.dtype(
    [
        ("key", "<i4"),
        ("threshold", "<i4"),
        ("above", "<i4"),
        ("before", "<i4"),
        ("input", "<i4"),
        ("unused", "<i4"),
        ("ratio", "<f8", 2),
        ("cover", "<f8", 2),
        ("end", "<f8", 2),
    ]
)
"""A split as the kernel reads it. `key` is the place of its input among a row's keys: the first ones are for
splits where a missing value goes left. Keys and `threshold` are whole numbers in the order of the values.
`above` is the branch it hangs on, 0 for a root; all else as `engine.models.forests` has it."""
_FASTEST: Final = 3
_BRIEF: Final = 16
"""Rows explained together, and up to which the interpreter's lock is kept: they take a millisecond at most,
and getting the lock back from a busy thread can take five."""


@dataclass(frozen=True, slots=True, eq=False)
class MachineCode:
    """The kernel, twice: `brief` keeps the interpreter's lock, `long` lets other threads run meanwhile.

    `walk` is what scores one row (`engine.models.walking`); it keeps the lock. `engine` owns the memory the
    code is in.
    """

    brief: _Explain
    long: _Explain
    walk: _Walk
    engine: object


class MachineKernel:
    """Explains rows of one ensemble with machine code."""

    def __init__(self, code: MachineCode, forests: Forests, *, input_count: int) -> None:
        self._code = code
        splits = _machine_splits(forests, input_count)
        self._arrays = (splits, forests.firsts, forests.quadrature)  # they must live as long
        branches = -(-(1 + 2 * forests.most_splits) // _ALIGNED) * _ALIGNED
        addresses = [array.ctypes.data for array in self._arrays]
        self._model = np.array([*addresses, len(forests.roots), input_count, branches], dtype=np.int64)
        self._model_at = self._model.ctypes.data
        self._scratch_bytes = branches * (3 * _LANES_BYTES + 1) + 4 * _ALIGNED
        self._row_bytes = input_count * (_LANES_BYTES + 2 * _KEY_BYTES)

    @property
    def size_bytes(self) -> int:
        """Memory of all that is kept."""
        return sum(array.nbytes for array in self._arrays)

    def explain(self, rows: Rows, found: Floats) -> None:
        """Puts the share of each input into all but the last column of `found`, which is C-contiguous."""
        values = np.array(rows, dtype=np.float32, order="C")  # our own, so that it may be looked at
        run = self._code.brief if len(values) <= _BRIEF else self._code.long
        for start in range(0, len(values), _BRIEF):
            some = values[start : start + _BRIEF]
            scratch = np.empty(self._scratch_bytes + len(some) * self._row_bytes, dtype=np.uint8)
            aligned = -(-_address(scratch) // _ALIGNED) * _ALIGNED
            run(self._model_at, aligned, _address(some), len(some), _address(found[start:]))


def _machine_splits(forests: Forests, input_count: int) -> npt.NDArray[np.void]:
    """The splits as the kernel reads them."""
    theirs = forests.splits
    splits = np.zeros(len(theirs), dtype=SPLIT)
    splits["key"] = theirs["input"] + np.where(theirs["missing_left"] == 1, 0, input_count)
    bits = (theirs["threshold"] + np.float32(0.0)).view(np.int32)
    splits["threshold"] = bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))
    for same in ("before", "input", "ratio", "cover", "end"):
        splits[same] = theirs[same]
    for first, end in pairwise(forests.firsts.tolist()):
        place = np.arange(end - first)
        for branch, side in enumerate(("left", "right"), start=1):
            slots = theirs[side][first:end]
            is_split = slots < end - first
            splits["above"][first + slots[is_split]] = branch + 2 * place[is_split]
    return splits


def _address(array: npt.NDArray[np.generic]) -> int:
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
; key, threshold, above, before, input, nothing; of both branches the ratios, the covers, the ends
%split = type { i32, i32, i32, i32, i32, i32, [2 x double], [2 x double], [2 x double] }
%model = type { ptr, ptr, ptr, i64, i64, i64 } ; three arrays and three counts
%behind = type { <4 x double>, <4 x double> } ; of a branch that was taken: 1 / h, and (1 - z) / h

declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)

; What engine.models.plain does, on what engine.models.forests lays out: a forest or more, an input or more.
; Scratch memory: from its 32nd byte, for each branch 4 lanes; for each branch 4 lanes of what it weighs; for
; each split what a branch that was taken leaves behind, the first of no split; the sums of each row's inputs,
; 4 lanes; two keys for each row's inputs; a byte for each branch. A row of the result has one number more
; than there are inputs. Pointers are trusted: trees and rows were checked before.
define void @explain(ptr %model, ptr %scratch, ptr %rows, i64 %count, ptr %out) {
entry:
  %splits = load ptr, ptr %model
  %firsts.at = getelementptr %model, ptr %model, i64 0, i32 1
  %firsts = load ptr, ptr %firsts.at
  %quadrature.at = getelementptr %model, ptr %model, i64 0, i32 2
  %quadrature = load ptr, ptr %quadrature.at
  %forests.at = getelementptr %model, ptr %model, i64 0, i32 3
  %forests = load i64, ptr %forests.at
  %inputs.at = getelementptr %model, ptr %model, i64 0, i32 4
  %inputs = load i64, ptr %inputs.at
  %branches.at = getelementptr %model, ptr %model, i64 0, i32 5
  %branches = load i64, ptr %branches.at
  %width = add i64 %inputs, 1
  %values.count = mul i64 %inputs, %count
  %below = getelementptr i8, ptr %scratch, i64 32
  %weighs.from = getelementptr i8, ptr %scratch, i64 64
  %weighs = getelementptr <4 x double>, ptr %weighs.from, i64 %branches
  %behind = getelementptr <4 x double>, ptr %weighs, i64 %branches
  %behind.end = getelementptr <4 x double>, ptr %behind, i64 %branches
  %sums = getelementptr i8, ptr %behind.end, i64 64
  %sums.bytes = mul i64 %values.count, 32
  %keys = getelementptr i8, ptr %sums, i64 %sums.bytes
  %keys.count = mul i64 %values.count, 2
  %open = getelementptr i32, ptr %keys, i64 %keys.count
  %any = icmp sgt i64 %count, 0
  br i1 %any, label %begin, label %done

begin:
  call void @llvm.memset.p0.i64(ptr align 32 %sums, i8 0, i64 %sums.bytes, i1 false)
  store i8 1, ptr %open ; branch 0: no split on the input yet, so z' and h' are 1
  store <4 x double> <double 1.0, double 1.0, double 1.0, double 1.0>, ptr %behind, align 32
  %nothing.at = getelementptr %behind, ptr %behind, i64 0, i32 1
  store <4 x double> zeroinitializer, ptr %nothing.at, align 32
  br label %key

key: ; whole numbers in the order of the values; the second is for splits where a missing value goes right
  %v = phi i64 [0, %begin], [%v.next, %key]
  %row.of.v = udiv i64 %v, %inputs
  %first.of.row = mul i64 %row.of.v, %inputs
  %v.key = add i64 %v, %first.of.row
  %v.at = getelementptr float, ptr %rows, i64 %v
  %v.value = load float, ptr %v.at
  %v.plus = fadd float %v.value, 0.0 ; -0.0 becomes 0.0, which it equals
  %v.bits = bitcast float %v.plus to i32
  %v.sign = ashr i32 %v.bits, 31
  %v.flip = and i32 %v.sign, 2147483647
  %v.ordered = xor i32 %v.bits, %v.flip
  %v.nan = fcmp uno float %v.value, %v.value
  %v.left = select i1 %v.nan, i32 -2147483648, i32 %v.ordered
  %v.right = select i1 %v.nan, i32 2147483647, i32 %v.ordered
  %left.key.at = getelementptr i32, ptr %keys, i64 %v.key
  store i32 %v.left, ptr %left.key.at
  %right.key.at = getelementptr i32, ptr %left.key.at, i64 %inputs
  store i32 %v.right, ptr %right.key.at
  %v.next = add i64 %v, 1
  %v.more = icmp slt i64 %v.next, %values.count
  br i1 %v.more, label %key, label %forest

forest:
  %f = phi i64 [0, %key], [%f.next, %forest.end]
  %first.at = getelementptr i64, ptr %firsts, i64 %f
  %first = load i64, ptr %first.at
  %last.at = getelementptr i64, ptr %first.at, i64 1
  %last = load i64, ptr %last.at
  %size = sub i64 %last, %first
  %here = getelementptr %split, ptr %splits, i64 %first
  %f.two = mul i64 %f, 2
  %points.at = getelementptr <4 x double>, ptr %quadrature, i64 %f.two
  %points = load <4 x double>, ptr %points.at, align 8
  %shares.at = getelementptr <4 x double>, ptr %points.at, i64 1
  %shares = load <4 x double>, ptr %shares.at, align 8
  %rest = fsub <4 x double> <double 1.0, double 1.0, double 1.0, double 1.0>, %points
  %left.out = fdiv <4 x double> <double -1.0, double -1.0, double -1.0, double -1.0>, %rest
  br label %row

row: ; a forest is read for all rows while it is at hand
  %i = phi i64 [0, %forest], [%i.next, %row.end]
  %x.offset = mul i64 %i, %inputs
  %x.keys = mul i64 %x.offset, 2
  %x = getelementptr i32, ptr %keys, i64 %x.keys
  %x.sums = getelementptr <4 x double>, ptr %sums, i64 %x.offset
  store <4 x double> <double 1.0, double 1.0, double 1.0, double 1.0>, ptr %below, align 32
  br label %down

down: ; from the roots: what each branch's inputs multiply to, and what it weighs
  %k = phi i64 [0, %row], [%k.next, %down]
  %k.at = getelementptr %split, ptr %here, i64 %k
  %key.place = load i32, ptr %k.at
  %threshold.at = getelementptr %split, ptr %k.at, i64 0, i32 1
  %threshold = load i32, ptr %threshold.at
  %above.at = getelementptr %split, ptr %k.at, i64 0, i32 2
  %above = load i32, ptr %above.at
  %before.at = getelementptr %split, ptr %k.at, i64 0, i32 3
  %before = load i32, ptr %before.at
  %key.place.64 = zext i32 %key.place to i64
  %value.at = getelementptr i32, ptr %x, i64 %key.place.64
  %value = load i32, ptr %value.at
  %goes.right = icmp sgt i32 %value, %threshold
  %taken = zext i1 %goes.right to i64
  %other = xor i64 %taken, 1
  %before.64 = zext i32 %before to i64
  %open.at = getelementptr i8, ptr %open, i64 %before.64
  %open.8 = load i8, ptr %open.at
  %is.open = icmp ne i8 %open.8, 0
  %k.branch = shl i64 %k, 1
  %k.open.at = getelementptr i8, ptr %open, i64 %k.branch
  %k.open.left.at = getelementptr i8, ptr %k.open.at, i64 1
  %k.open.taken.at = getelementptr i8, ptr %k.open.left.at, i64 %taken
  %k.open.other.at = getelementptr i8, ptr %k.open.left.at, i64 %other
  store i8 %open.8, ptr %k.open.taken.at
  store i8 0, ptr %k.open.other.at
  %before.up = add i64 %before.64, 1
  %before.place = lshr i64 %before.up, 1
  %left.at = getelementptr %behind, ptr %behind, i64 %before.place
  %inverse.before = load <4 x double>, ptr %left.at, align 32
  %weight.before.at = getelementptr %behind, ptr %left.at, i64 0, i32 1
  %weight.before = load <4 x double>, ptr %weight.before.at, align 32
  %z.taken.at = getelementptr %split, ptr %k.at, i64 0, i32 6, i64 %taken
  %z.taken.1 = load double, ptr %z.taken.at
  %z.taken.v = insertelement <4 x double> poison, double %z.taken.1, i32 0
  %z.taken = shufflevector <4 x double> %z.taken.v, <4 x double> poison, <4 x i32> zeroinitializer
  %z.other.at = getelementptr %split, ptr %k.at, i64 0, i32 6, i64 %other
  %z.other.1 = load double, ptr %z.other.at
  %z.other.v = insertelement <4 x double> poison, double %z.other.1, i32 0
  %z.other = shufflevector <4 x double> %z.other.v, <4 x double> poison, <4 x i32> zeroinitializer
  %h.part = fmul <4 x double> %rest, %z.taken
  %h = fadd <4 x double> %points, %h.part
  %inverse = fdiv <4 x double> <double 1.0, double 1.0, double 1.0, double 1.0>, %h
  %z.missing = fsub <4 x double> <double 1.0, double 1.0, double 1.0, double 1.0>, %z.taken
  %weight.own = fmul <4 x double> %z.missing, %inverse
  %k.next = add i64 %k, 1
  %k.behind.at = getelementptr %behind, ptr %behind, i64 %k.next
  store <4 x double> %inverse, ptr %k.behind.at, align 32
  %k.weight.own.at = getelementptr %behind, ptr %k.behind.at, i64 0, i32 1
  store <4 x double> %weight.own, ptr %k.weight.own.at, align 32
  %weight.taken.gain = fsub <4 x double> %weight.own, %weight.before
  %weight.taken.open = fmul <4 x double> %shares, %weight.taken.gain
  %weight.other.gain = fsub <4 x double> %left.out, %weight.before
  %weight.other.open = fmul <4 x double> %shares, %weight.other.gain
  %weight.taken = select i1 %is.open, <4 x double> %weight.taken.open, <4 x double> zeroinitializer
  %weight.other = select i1 %is.open, <4 x double> %weight.other.open, <4 x double> zeroinitializer
  %k.weighs.at = getelementptr <4 x double>, ptr %weighs, i64 %k.branch
  %k.weighs.taken.at = getelementptr <4 x double>, ptr %k.weighs.at, i64 %taken
  store <4 x double> %weight.taken, ptr %k.weighs.taken.at, align 32
  %k.weighs.other.at = getelementptr <4 x double>, ptr %k.weighs.at, i64 %other
  store <4 x double> %weight.other, ptr %k.weighs.other.at, align 32
  %c.taken.at = getelementptr %split, ptr %k.at, i64 0, i32 7, i64 %taken
  %c.taken.1 = load double, ptr %c.taken.at
  %c.taken.v = insertelement <4 x double> poison, double %c.taken.1, i32 0
  %c.taken = shufflevector <4 x double> %c.taken.v, <4 x double> poison, <4 x i32> zeroinitializer
  %c.other.at = getelementptr %split, ptr %k.at, i64 0, i32 7, i64 %other
  %c.other.1 = load double, ptr %c.other.at
  %c.other.v = insertelement <4 x double> poison, double %c.other.1, i32 0
  %c.other = shufflevector <4 x double> %c.other.v, <4 x double> poison, <4 x i32> zeroinitializer
  %e.taken.at = getelementptr %split, ptr %k.at, i64 0, i32 8, i64 %taken
  %e.taken.1 = load double, ptr %e.taken.at
  %e.taken.v = insertelement <4 x double> poison, double %e.taken.1, i32 0
  %e.taken = shufflevector <4 x double> %e.taken.v, <4 x double> poison, <4 x i32> zeroinitializer
  %e.other.at = getelementptr %split, ptr %k.at, i64 0, i32 8, i64 %other
  %e.other.1 = load double, ptr %e.other.at
  %e.other.v = insertelement <4 x double> poison, double %e.other.1, i32 0
  %e.other = shufflevector <4 x double> %e.other.v, <4 x double> poison, <4 x i32> zeroinitializer
  %change.taken.open = fmul <4 x double> %h, %inverse.before
  %change.other.part = fmul <4 x double> %rest, %z.other
  %change.other.open = fmul <4 x double> %change.other.part, %inverse.before
  %change.taken = select i1 %is.open, <4 x double> %change.taken.open, <4 x double> %c.taken
  %change.other = select i1 %is.open, <4 x double> %change.other.open, <4 x double> %c.other
  %factor.taken = fmul <4 x double> %change.taken, %e.taken
  %factor.other = fmul <4 x double> %change.other, %e.other
  %above.64 = zext i32 %above to i64
  %product.at = getelementptr <4 x double>, ptr %below, i64 %above.64
  %product = load <4 x double>, ptr %product.at, align 32
  %product.taken = fmul <4 x double> %product, %factor.taken
  %product.other = fmul <4 x double> %product, %factor.other
  %d.above.at = getelementptr <4 x double>, ptr %below, i64 %k.branch
  %d.left.at = getelementptr <4 x double>, ptr %d.above.at, i64 1
  %d.taken.at = getelementptr <4 x double>, ptr %d.left.at, i64 %taken
  store <4 x double> %product.taken, ptr %d.taken.at, align 32
  %d.other.at = getelementptr <4 x double>, ptr %d.left.at, i64 %other
  store <4 x double> %product.other, ptr %d.other.at, align 32
  %k.more = icmp slt i64 %k.next, %size
  br i1 %k.more, label %down, label %up

up: ; from the leaves: what is below each branch adds up to, and what that gives the split's input
  %j.after = phi i64 [%size, %down], [%j, %up]
  %j = sub i64 %j.after, 1
  %u.above.at = getelementptr %split, ptr %here, i64 %j, i32 2
  %u.above = load i32, ptr %u.above.at
  %u.input.at = getelementptr %split, ptr %here, i64 %j, i32 4
  %u.input = load i32, ptr %u.input.at
  %u.branch = shl i64 %j, 1
  %weight.at = getelementptr <4 x double>, ptr %weighs, i64 %u.branch
  %weight.left = load <4 x double>, ptr %weight.at, align 32
  %weight.right.at = getelementptr i8, ptr %weight.at, i64 32
  %weight.right = load <4 x double>, ptr %weight.right.at, align 32
  %u.pair.at = getelementptr <8 x double>, ptr %below, i64 %j
  %u.left.at = getelementptr i8, ptr %u.pair.at, i64 32
  %below.left = load <4 x double>, ptr %u.left.at, align 32 ; one by one, as they were stored
  %u.right.at = getelementptr i8, ptr %u.pair.at, i64 64
  %below.right = load <4 x double>, ptr %u.right.at, align 32
  %together = fadd <4 x double> %below.left, %below.right
  %u.above.64 = zext i32 %u.above to i64
  %u.at = getelementptr <4 x double>, ptr %below, i64 %u.above.64
  store <4 x double> %together, ptr %u.at, align 32
  %given.left = fmul <4 x double> %below.left, %weight.left
  %given.right = fmul <4 x double> %below.right, %weight.right
  %given = fadd <4 x double> %given.left, %given.right
  %u.input.64 = zext i32 %u.input to i64
  %sum.at = getelementptr <4 x double>, ptr %x.sums, i64 %u.input.64
  %sum = load <4 x double>, ptr %sum.at, align 32
  %sum.next = fadd <4 x double> %sum, %given
  store <4 x double> %sum.next, ptr %sum.at, align 32
  %j.more = icmp sgt i64 %j, 0
  br i1 %j.more, label %up, label %row.end

row.end:
  %i.next = add i64 %i, 1
  %i.more = icmp slt i64 %i.next, %count
  br i1 %i.more, label %row, label %forest.end

forest.end:
  %f.next = add i64 %f, 1
  %f.more = icmp slt i64 %f.next, %forests
  br i1 %f.more, label %forest, label %told

told:
  %o.row = phi i64 [0, %forest.end], [%o.row.next, %told.end]
  %o.offset = mul i64 %o.row, %width
  %o = getelementptr double, ptr %out, i64 %o.offset
  %o.sums.offset = mul i64 %o.row, %inputs
  %o.sums = getelementptr <4 x double>, ptr %sums, i64 %o.sums.offset
  br label %input

input:
  %c = phi i64 [0, %told], [%c.next, %input]
  %lanes.at = getelementptr <4 x double>, ptr %o.sums, i64 %c
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
  br i1 %c.more, label %input, label %told.end

told.end:
  %o.row.next = add i64 %o.row, 1
  %o.more = icmp slt i64 %o.row.next, %count
  br i1 %o.more, label %told, label %done

done:
  ret void
}
"""
