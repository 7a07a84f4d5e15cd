"""One LMDB environment, shared by threads and processes, that grows and explains its errors.

LMDB's rules that shape this module: the map may be resized only while this process has no transaction open,
and a process must not open one environment twice. Hence one lock around reads, one around writes (always
taken before the other), and both for a resize. Readers never wait for a commit's fsync: only the write
lock is held then. Writes of several threads that wait for one fsync share the next (group commit).
"""

from __future__ import annotations

import errno
import shutil
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import lmdb

from feature_store.errors import StoreCorrupt, StoreError, StoreFull, StoreRefused, StoreUnavailable

Work = TypeVar("Work")

if TYPE_CHECKING:
    Snapshot = lmdb.Transaction[bytes]
    Database = lmdb._Database

DEFAULT_MAP_BYTES = 1 << 30
"""Address space reserved at first; the file grows only as it is filled. Doubled when full."""

MAX_MAP_BYTES = 1 << 40
"""Where doubling stops: one TiB, far below what a 47-bit address space holds."""

MAX_READERS = 512
"""Reader slots of all processes together: reads of one process take turns, so one or two for each."""

LMDB_VERSION = ".".join(map(str, lmdb.version()))

MAX_KEY_BYTES = 511
"""Longest key LMDB takes."""

_SPARE_TRANSACTIONS = 2
"""Finished read transactions kept with their slot: renewing one is what makes a read cost 1 us."""

_MAX_JOBS = 64
"""Writes that share one commit; enough to share the cost of an fsync, few enough not to delay the first."""

LOW_DISK_BYTES = 64 << 20
"""Free space from which a failed write is taken for a full disk, and an operator is warned."""

_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_DAMAGED = (
    lmdb.CorruptedError,
    lmdb.PageNotFoundError,
    lmdb.InvalidError,
    lmdb.VersionMismatchError,
    lmdb.PanicError,
)


@dataclass(slots=True, eq=False)
class _Job(Generic[Work]):
    """A write that waits for its commit, then what came of it."""

    work: Callable[[Snapshot], Work]
    done: bool = False
    result: Work | None = None
    error: Exception | None = None

    def settle(self, result: Work | None, error: Exception | None) -> None:
        self.result, self.error, self.done = result, error, True


@dataclass(frozen=True, slots=True)
class Room:
    """What an environment takes of what it may take. `readers` are slots in use, of MAX_READERS."""

    used_bytes: int
    map_bytes: int
    disk_free_bytes: int
    readers: int


class Environment:
    """Named databases in one directory, read by snapshots and written by whole transactions."""

    def __init__(
        self, path: Path, *, map_size_bytes: int, databases: Sequence[tuple[bytes, bool]], sync: bool
    ) -> None:
        """Opens or creates; `databases` are names and whether a key may hold several values.

        With `sync` a commit is on disk when it returns. Raises StoreUnavailable or StoreCorrupt.
        """
        self.path = path
        self._read_lock = threading.Lock()
        self._write_lock = threading.Lock()
        self._jobs: deque[_Job[Any]] = deque()
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._env = _open(path, map_size_bytes=map_size_bytes, databases=len(databases), sync=sync)
        except (OSError, lmdb.Error) as error:
            raise self._explained(error, "opened") from error
        try:
            # Slots of processes that were killed; without this they are never given back.
            self._env.reader_check()
            self.databases = self.write(
                lambda txn: [self._env.open_db(name, txn=txn, dupsort=dupsort) for name, dupsort in databases]
            )
        except BaseException:
            self._env.close()
            raise

    def get(self, key: bytes, databases: Sequence[Database]) -> list[bytes | None]:
        """The values of one key in several databases, from one snapshot."""
        try:
            with self._read_lock, self._env.begin() as txn:
                get = txn.get
                return [get(key, None, database) for database in databases]
        except lmdb.Error:
            # The rare cases, told apart and retried, off the fast path.
            return self.read(lambda txn: [txn.get(key, None, database) for database in databases])

    def read(self, work: Callable[[Snapshot], Work]) -> Work:
        """Runs `work` on one snapshot; it may run again, so it must only read."""
        attempts = 3
        while True:
            try:
                with self._read_lock, self._env.begin() as txn:
                    return work(txn)
            except lmdb.Error as error:
                attempts -= 1
                if not attempts or not self._made_way(error):
                    raise self._explained(error, "read") from error

    def _made_way(self, error: lmdb.Error) -> bool:
        """Whether the cause of a failed read was removed, so that it may be tried again."""
        if isinstance(error, lmdb.MapResizedError):
            with self._write_lock:
                self._resize(0)
            return True
        return isinstance(error, lmdb.ReadersFullError) and bool(self._env.reader_check())

    def write(self, work: Callable[[Snapshot], Work]) -> Work:
        """Runs `work` in a write transaction; when this returns it is committed, whole.

        It may share the transaction with the work of other threads, run in another thread, and run again
        where the map had to grow or a neighbour failed; so it must change nothing but the transaction.
        """
        job = _Job(work)
        self._jobs.append(job)
        with self._write_lock:
            while not job.done:
                self._commit([self._jobs.popleft() for _ in range(min(len(self._jobs), _MAX_JOBS))])
        if job.error is not None:
            raise job.error
        return job.result  # type: ignore[return-value]  # set when done without error

    def _commit(self, jobs: Sequence[_Job[Any]]) -> None:
        """Settles every job: all in one transaction, or each in its own where one of them fails."""
        try:
            results = self._transact(lambda txn: [job.work(txn) for job in jobs])
        except Exception as error:
            if len(jobs) == 1:
                jobs[0].settle(None, error)
            else:
                for job in jobs:
                    self._commit([job])
        except BaseException:
            for job in jobs:
                job.settle(None, StoreUnavailable(f"{self.path}: the write was interrupted; try again"))
            raise
        else:
            for job, result in zip(jobs, results, strict=True):
                job.settle(result, None)

    def _transact(self, work: Callable[[Snapshot], Work]) -> Work:
        """Runs `work` in one transaction, growing the map as needed. The caller holds the write lock."""
        while True:
            try:
                with self._env.begin(write=True) as txn:
                    return work(txn)
            except lmdb.MapResizedError:
                self._resize(0)
            except lmdb.MapFullError as error:
                self._grow(error)
            except lmdb.Error as error:
                raise self._explained(error, "written") from error

    def room(self) -> Room:
        """How much of the file, the map, the disk and the reader slots is taken."""
        try:
            with self._read_lock:
                info, page_bytes = self._env.info(), self._env.stat()["psize"]
            free = shutil.disk_usage(self.path).free
        except (OSError, lmdb.Error) as error:
            raise self._explained(error, "read") from error
        return Room(
            used_bytes=(info["last_pgno"] + 1) * page_bytes,
            map_bytes=info["map_size"],
            disk_free_bytes=free,
            readers=info["num_readers"],
        )

    def close(self) -> None:
        """Unmaps the file; waits for reads and writes in flight."""
        with self._write_lock, self._read_lock:
            self._env.close()

    def _grow(self, error: lmdb.Error) -> None:
        size = self._env.info()["map_size"]
        if size >= MAX_MAP_BYTES:
            raise StoreFull(
                f"{self.path}: the map has reached its limit of {MAX_MAP_BYTES} bytes; split the customers "
                "over several stores"
            ) from error
        self._resize(min(2 * size, MAX_MAP_BYTES))

    def _resize(self, size: int) -> None:
        """Sets the map size, 0 to adopt what another process grew it to. The caller holds the write lock."""
        try:
            with self._read_lock:
                self._env.set_mapsize(size)
        except (lmdb.Error, MemoryError) as error:
            raise StoreUnavailable(
                f"{self.path}: the map cannot be resized to {size or 'the size on disk'}: {error}; allow the "
                "process more address space (ulimit -v)"
            ) from error

    def _explained(self, error: OSError | lmdb.Error, verb: str) -> StoreError:
        """The error of our tree for one of LMDB's or of the system: what, where and what to do."""
        where = f"{self.path}: cannot be {verb}"
        code = getattr(error, "code", 0) or getattr(error, "errno", 0)
        if code in _DISK_FULL or isinstance(error, lmdb.DiskError) or self._is_short_write(code):
            return StoreFull(
                f"{where}: the disk is full ({error}); free space, then write again: nothing is lost"
            )
        if isinstance(error, _DAMAGED):
            return StoreCorrupt(
                f"{where}: {error}; stop all processes, move the directory away and fill it from its sources"
            )
        if isinstance(error, lmdb.BadValsizeError):
            return StoreRefused(f"{where}: a key is empty or longer than {MAX_KEY_BYTES} bytes")
        if isinstance(error, lmdb.ReadersFullError):
            return StoreUnavailable(f"{where}: all {MAX_READERS} reader slots are taken; run fewer processes")
        if "already open in this process" in str(error):
            return StoreUnavailable(
                f"{where}: this process has it open already; pass that store on, or close it first"
            )
        if "closed/deleted" in str(error):
            return StoreUnavailable(f"{where}: this store was closed")
        return StoreUnavailable(
            f"{where}: {error}; see that the directory is on a local disk and that this user may write to it"
        )

    def _is_short_write(self, code: int) -> bool:
        """LMDB reports a write that a full disk cut short as an I/O error."""
        try:
            return code == errno.EIO and shutil.disk_usage(self.path).free < LOW_DISK_BYTES
        except OSError:
            return False


def _open(path: Path, *, map_size_bytes: int, databases: int, sync: bool) -> lmdb.Environment:
    return lmdb.open(
        str(path),
        map_size=map_size_bytes,
        max_dbs=databases,
        max_readers=MAX_READERS,
        max_spare_txns=_SPARE_TRANSACTIONS,
        mode=0o600,
        sync=sync,
        metasync=sync,
        # Through a writable map a full disk is a SIGBUS and a stray pointer is silent damage.
        writemap=False,
    )
