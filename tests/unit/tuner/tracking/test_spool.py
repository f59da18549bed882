"""The journal on disk and its delivery thread, without MLflow."""

import json
import threading
import time
from pathlib import Path

import pytest

from tuner.tracking.delivery_thread import DeliveryThread
from tuner.tracking.spool import EventBatch, Spool


def _events(spool: Spool, n: int = 1000) -> list[int]:
    return [event["n"] for event in spool.read(spool.acked, n).events]


def test_events_come_back_in_order_and_after_a_restart(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "deep" / "spool")
    for n in range(5):
        spool.append({"n": n})
    page = spool.read(0, 2)
    assert [event["n"] for event in page.events] == [0, 1]
    spool.ack(page.offset)
    spool.close()
    again = Spool(tmp_path / "deep" / "spool")
    assert again.unsent() == 3
    assert _events(again) == [2, 3, 4]


def test_torn_last_line_is_cut_and_the_next_event_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "spool"
    path.write_bytes(b'{"n":0}\n{"n":1}\n{"n":2, "text":"' + b"x" * 200_000)
    spool = Spool(path)
    spool.append({"n": 3})
    assert _events(spool) == [0, 1, 3]
    path.write_bytes(b"torn from the first byte")
    assert Spool(path).unsent() == 0
    assert path.read_bytes() == b""


def test_unreadable_line_in_the_middle_is_reported_and_passed(tmp_path: Path) -> None:
    path = tmp_path / "spool"
    path.write_bytes(b'{"n":0}\n\x00\xff{"n"\n[1]\n{"n":2}\n')
    page = Spool(path).read(0, 10)
    assert [event["n"] for event in page.events] == [0, 2]
    assert len(page.broken) == 2
    assert "byte 8" in page.broken[0]
    assert page.offset == path.stat().st_size


@pytest.mark.parametrize(
    "mark",
    [
        "",
        "12",
        '{"offset":3,"consumer":""}',
        '{"offset":9999,"consumer":""}',
        '{"offset":8,"consumer":"x"}',
        "[]",
    ],
)
def test_doubtful_mark_means_from_the_beginning(tmp_path: Path, mark: str) -> None:
    path = tmp_path / "spool"
    path.write_bytes(b'{"n":0}\n{"n":1}\n')
    (tmp_path / "spool.ack").write_text(mark)
    assert _events(Spool(path)) == [0, 1]


def test_mark_counts_for_its_consumer_only(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", "here")
    spool.append({"n": 0})
    spool.ack(spool.read(0, 1).offset)
    assert Spool(tmp_path / "spool", "here").unsent() == 0
    assert Spool(tmp_path / "spool", "there").unsent() == 1


def test_page_limits_take_one_large_event_at_least(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    for n in range(3):
        spool.append({"n": n, "text": "x" * 1000})
    assert len(spool.read(0, 100, max_bytes=10).events) == 1


def test_appending_from_many_threads_tears_no_line(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")

    def work(k: int) -> None:
        for n in range(200):
            spool.append({"n": n, "k": k})

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = [json.loads(line) for line in spool.path.read_text().splitlines()]
    for k in range(8):
        assert [line["n"] for line in lines if line["k"] == k] == list(range(200))


class _Receiver:
    """Takes events, fails when told to, forgets everything when told to."""

    def __init__(self, spool: Spool) -> None:
        self.got: list[int] = []
        self.away = False
        self.new = False
        self.errors: list[str] = []
        self.delivery = DeliveryThread(
            spool, self.connect, self.deliver, lambda e: self.errors.append(str(e)), 0.02
        )

    def connect(self) -> bool:
        new, self.new = self.new, False
        return new

    def deliver(self, page: EventBatch) -> None:
        if self.away:
            raise ConnectionError("away")
        self.got += [event["n"] for event in page.events]


def test_nothing_is_lost_while_the_receiver_is_away(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    receiver = _Receiver(spool)
    receiver.away = True
    receiver.delivery.start()
    for n in range(10):
        spool.append({"n": n})
    assert receiver.delivery.flush(0.5) == 10
    assert receiver.errors
    receiver.away = False
    assert receiver.delivery.flush(10) == 0
    assert receiver.got == list(range(10))
    assert receiver.delivery.stop(5) == 0
    assert not receiver.delivery.alive


def test_new_receiver_gets_the_whole_story(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    spool.append({"n": 0})
    spool.ack(spool.read(0, 1).offset)
    spool.append({"n": 1})
    receiver = _Receiver(spool)
    receiver.new = True
    receiver.delivery.start()
    assert receiver.delivery.stop(5) == 0
    assert receiver.got == [0, 1]


def test_stop_keeps_its_deadline_while_the_receiver_is_away(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    spool.append({"n": 0})
    receiver = _Receiver(spool)
    receiver.away = True
    receiver.delivery.start()
    begin = time.monotonic()
    assert receiver.delivery.stop(0.5) == 1
    assert time.monotonic() - begin < 3
