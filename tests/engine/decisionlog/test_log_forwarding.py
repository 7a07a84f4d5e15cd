"""Forwarding to a real Redis: every decision at least once, whatever dies on the way."""

import json
import random
import subprocess
import sys
import threading
import time

import pytest
from arbiter_at_work import REPOSITORY
from export_examples import log_decisions, mask
from structlog.testing import capture_logs

from engine.decisionlog.compressing import compress
from engine.decisionlog.erasure import erase_entries
from engine.decisionlog.errors import LogUnavailable
from engine.decisionlog.forwarding import Forwarder, Pressure
from engine.settings import Settings
from engine.stores import open_outbound
from feature_store.errors import StoreError

STREAM = "decisions"


@pytest.fixture
def stream(redis_server, tmp_path):
    """The stream that is forwarded to."""
    opened = open_outbound(Settings(data_dir=tmp_path), redis_server.url, name=STREAM)
    yield opened
    opened.close()


@pytest.fixture
def client(redis_server):
    """Who reads it."""
    with redis_server.admin() as client:
        yield client


def forwarder(tmp_path, stream, *, erased=(), stop=None, **pressure):
    return Forwarder(
        tmp_path / "decisions",
        stream,
        folder=tmp_path / "forwarding",
        mask=mask(),
        is_erased=lambda customer_id: customer_id in erased,
        away=StoreError,
        pressure=Pressure(**pressure),
        stop=stop or threading.Event(),
    )


def read_ids(client):
    return [fields[b"decision_id"].decode() for _, fields in client.xrange(STREAM)]


def test_decisions_come_in_order_and_once(tmp_path, stream, client):
    """Where nothing dies each comes once; the next run sends what is new, compressed or not."""
    ids = log_decisions(tmp_path / "decisions", 7)
    first = forwarder(tmp_path, stream, batch=3)
    first.run(once=True)
    list(compress(tmp_path / "decisions", ended_before_s=1e12))
    ids += log_decisions(tmp_path / "decisions", 2, start=7)

    forwarder(tmp_path, stream).run(once=True)

    assert read_ids(client) == ids
    assert first.done.sent == 7


def test_its_user_may_do_no_more_than_it_needs(tmp_path, redis_server, client):
    """The rights of docs/redis.md are enough, with and without a bound."""
    ids = log_decisions(tmp_path / "decisions", 3)
    name = "arbiter:decisions"
    stream = open_outbound(Settings(data_dir=tmp_path), redis_server.url_of("forward"), name=name)

    forwarder(tmp_path, stream, max_length=1_000, wait_above=1_000).run(once=True)

    stream.close()
    assert client.xlen(name) == len(ids)


def test_entries_are_masked(tmp_path, stream, client):
    """An entry holds what the policy lets through, as JSON."""
    log_decisions(tmp_path / "decisions", 1)

    forwarder(tmp_path, stream).run(once=True)

    ((_, fields),) = client.xrange(STREAM)
    row = json.loads(fields[b"decision"])
    assert row["decision_id"].encode() == fields[b"decision_id"]
    assert (row["customer"][:2], row["context"]) == ("p-", {})
    assert b"c-0" not in fields[b"decision"]


def test_erased_customers_are_left_out(tmp_path, stream, client):
    """Whose records are blank, and who is in the register though a record is still there."""
    ids = log_decisions(tmp_path / "decisions", 6)
    erase_entries(tmp_path / "decisions", "c-1", actor="dpo", reason="r", now_ms=1)
    sender = forwarder(tmp_path, stream, erased={"c-2"})

    sender.run(once=True)

    assert read_ids(client) == [ids[0], ids[3]]
    assert (sender.done.sent, sender.done.erased) == (2, 4)


def test_a_full_stream_is_waited_for(tmp_path, stream, client):
    """Until readers have taken some out; nothing is dropped."""
    ids = log_decisions(tmp_path / "decisions", 5)
    sender = forwarder(tmp_path, stream, batch=1, wait_above=2)
    work = threading.Thread(target=sender.run, kwargs={"once": True})
    work.start()

    taken = []
    while len(taken) < len(ids):
        waiting = client.xrange(STREAM)
        assert len(waiting) <= 2
        for entry_id, fields in waiting:
            taken.append(fields[b"decision_id"].decode())
            client.xdel(STREAM, entry_id)
    work.join()

    assert taken == ids


def test_a_bounded_stream_drops_its_oldest(tmp_path, stream, client):
    """Where the operator says so; about as many stay as Redis keeps in a node."""
    log_decisions(tmp_path / "decisions", 250)

    forwarder(tmp_path, stream, max_length=10).run(once=True)

    assert client.xlen(STREAM) < 250


def test_it_goes_on_when_the_server_is_back(tmp_path, own_redis):
    """A server that is away is waited for and told of once; what came in meanwhile is sent."""
    ids = log_decisions(tmp_path / "decisions", 2)
    stop = threading.Event()
    stream = open_outbound(Settings(data_dir=tmp_path), own_redis.url, name=STREAM)
    own_redis.kill()
    with capture_logs() as told:
        sender = forwarder(tmp_path, stream, stop=stop)
        work = threading.Thread(target=sender.run, kwargs={"once": False})
        work.start()
        while not told:
            stop.wait(0.01)
        ids += log_decisions(tmp_path / "decisions", 1, start=2)
        own_redis.start()

        with own_redis.admin() as client:
            while len(read_ids(client)) < len(ids):
                stop.wait(0.01)
            stop.set()
            work.join()
            read = read_ids(client)

    stream.close()
    assert read == ids
    assert [event["event"] for event in told].count("forward.waiting") == 1


def test_what_was_read_to_its_end_is_not_opened_again(tmp_path, stream, client):
    """However often it looks, a torn end is told once; what is added to the log is found all the same."""
    ids = log_decisions(tmp_path / "decisions", 1)
    (path,) = (tmp_path / "decisions").glob("*.seg")
    path.write_bytes(path.read_bytes() + b"torn")
    stop = threading.Event()
    with capture_logs() as told:
        sender = forwarder(tmp_path, stream, stop=stop)
        work = threading.Thread(target=sender.run, kwargs={"once": False})
        work.start()
        for more in (1, 2):
            ids += log_decisions(tmp_path / "decisions", 1, start=more)
            while len(read_ids(client)) < len(ids):
                stop.wait(0.01)
        stop.set()
        work.join()

    assert read_ids(client) == ids
    assert [event["event"] for event in told] == ["log.tail_torn"]


def test_one_process_forwards_to_a_stream(tmp_path, stream, client):
    """A second one would send everything twice."""
    log_decisions(tmp_path / "decisions", 1)
    stop = threading.Event()
    first = forwarder(tmp_path, stream, stop=stop)
    work = threading.Thread(target=first.run, kwargs={"once": False})
    work.start()
    while not first.done.sent:
        stop.wait(0.01)

    with pytest.raises(LogUnavailable, match="another process"):
        forwarder(tmp_path, stream).run(once=True)

    stop.set()
    work.join()


def survive(kills, tmp_path, redis_server, client, seed):
    """Kills `arbiter log forward` again and again while decisions are logged; ids logged and ids read."""
    dice, ids = random.Random(seed), []
    command = [sys.executable, "-m", "engine", "log", "forward", "--to", redis_server.url, "--stream", STREAM]
    command += ["--data-dir", str(tmp_path), "--batch", "20"]
    for kill in range(kills):
        ids += log_decisions(tmp_path / "decisions", 150, start=150 * kill, days_apart=0)
        sent = client.xlen(STREAM)
        running = subprocess.Popen(
            command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while client.xlen(STREAM) == sent:
            assert running.poll() is None
        time.sleep(dice.uniform(0, 0.05))
        running.kill()
        running.wait()
    subprocess.run([*command, "--once"], cwd=REPOSITORY, check=True, capture_output=True)
    return ids, read_ids(client)


@pytest.mark.slow
def test_a_kill_loses_no_decision(tmp_path, redis_server, client):
    """What was on its way may come again; the order of first arrivals is that of the log."""
    ids, read = survive(1, tmp_path, redis_server, client, seed=1)

    assert list(dict.fromkeys(read)) == ids


@pytest.mark.slow
def test_twenty_kills_lose_no_decision(tmp_path, redis_server, client):
    """The long form: at least once, and few of them twice."""
    ids, read = survive(20, tmp_path, redis_server, client, seed=2)

    assert set(read) == set(ids)
    assert len(read) - len(ids) <= 20 * 20
