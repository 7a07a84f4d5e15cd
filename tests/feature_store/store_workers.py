"""What other processes do in the tests of a shared data directory; started by spawn."""

from __future__ import annotations

import resource
import signal
from multiprocessing.connection import Connection
from pathlib import Path

from store_examples import consent, contact, vector

from feature_store.embedded import open_embedded
from feature_store.errors import StoreError
from feature_store.state import ConsentState


def record_contacts(data_dir: Path, worker: int, count: int) -> None:
    """Records contacts of its own, and one under a key that all workers use."""
    store = open_embedded(data_dir)
    store.record_contact("c1", contact(0), key="shared")
    for i in range(count):
        store.record_contact("c1", contact(1 + worker * count + i), key=f"{worker}:{i}")
    store.close()


def object_on_request(data_dir: Path, pipe: Connection) -> None:
    """Opens the store, says so, and records one objection for every message until None."""
    store = open_embedded(data_dir)
    pipe.send("open")
    while (customer := pipe.recv()) is not None:
        store.put_consents([(customer, consent(ConsentState.OBJECTED, at_ms=5_000))])
        pipe.send("recorded")
    store.close()


def write_until_killed(data_dir: Path, pipe: Connection) -> None:
    """Records contacts and claims, telling the number of each only after it was acknowledged."""
    store = open_embedded(data_dir)
    i = 0
    while True:
        store.record_contact("c1", contact(i), key=str(i))
        store.claim(str(i), b"held", now_ms=0, ttl_ms=1_000)
        pipe.send(i)
        i += 1


def read_and_wait(data_dir: Path, pipe: Connection) -> None:
    """Takes a reader slot and keeps it until killed."""
    store = open_embedded(data_dir)
    store.read("c1")
    pipe.send("read")
    pipe.recv()


def put_many(data_dir: Path, map_size_bytes: int, count: int) -> None:
    """Puts more customers than the map first holds."""
    store = open_embedded(data_dir, map_size_bytes=map_size_bytes)
    store.put_customers((f"c{i:06d}", vector(*range(100))) for i in range(count))
    store.close()


def fill_the_disk(data_dir: Path, pipe: Connection) -> None:
    """Writes with no room for the file to grow, then without that limit; sends what happened."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    store = open_embedded(data_dir)
    store.put_customers([("c0", vector(1.0))])
    size = (data_dir / "state" / "data.mdb").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    try:
        store.put_customers((f"c{i}", vector(2.0)) for i in range(5_000))
        pipe.send("no error")
    except StoreError as error:
        pipe.send(f"{type(error).__name__}: {error}")
    state = store.read("c0")
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    store.put_customers([("later", vector(3.0))])
    pipe.send((state.features.values.tolist(), sorted(store.customers())))  # type: ignore[union-attr]
    store.close()
