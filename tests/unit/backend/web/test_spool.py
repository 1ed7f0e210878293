import json
import os
import resource
import threading
from contextlib import closing

import pytest

from backend.web.spool import PIECE_BYTES, Spool, Ticket, to_json, write_answer


def answer(spool, results, version="v-1"):
    length, pieces = write_answer(spool, results, version)
    data = b"".join(pieces)
    assert len(data) == length
    return json.loads(data)


def prediction(i, size=10):
    return {"result": [{"value": {"rle": [i % 256] * size}}], "score": 0.5, "model_version": "v-1"}


@pytest.mark.parametrize(
    "memory_bytes", [10**9, 0, 200], ids=["all in memory", "all in the file", "the first in memory"]
)
def test_an_answer_holds_every_prediction_in_the_tasks_order(tmp_path, memory_bytes):
    with closing(Spool(memory_bytes, tmp_path)) as spool:
        # Finished in another order than they are answered.
        kept = {i: spool.keep(prediction(i)) for i in (3, 0, 4, 1)}
        results = [kept.get(i, []) for i in range(5)]
        made = [prediction(i) if i in kept else [] for i in range(5)]
        assert answer(spool, results) == {"results": made, "model_version": "v-1"}
        assert sum(ticket.data is None for ticket in kept.values()) == {10**9: 0, 0: 4, 200: 2}[memory_bytes]


def test_no_task_at_all(tmp_path):
    with closing(Spool(0, tmp_path)) as spool:
        assert answer(spool, []) == {"results": [], "model_version": "v-1"}


def test_a_prediction_longer_than_a_piece(tmp_path):
    with closing(Spool(0, tmp_path)) as spool:
        long = prediction(7, PIECE_BYTES)
        ticket = spool.keep(long)
        assert ticket.length > 2 * PIECE_BYTES
        pieces = list(spool.read(ticket))
        assert max(map(len, pieces)) == PIECE_BYTES
        assert json.loads(b"".join(pieces)) == long


def test_from_several_threads(tmp_path):
    with closing(Spool(1000, tmp_path)) as spool:
        kept = {}

        def work(first):
            for i in range(first, 400, 8):
                kept[i] = spool.keep(prediction(i, i))

        threads = [threading.Thread(target=work, args=(first,)) for first in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answer(spool, [kept[i] for i in range(400)])["results"] == [prediction(i, i) for i in range(400)]


def resident_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_memory_does_not_grow_with_the_number_of_predictions(tmp_path):
    # Not by tracemalloc: orjson asks for much more than it touches, and gives it back behind that one's back.
    heavy = prediction(255, 100_000)  # 400 kB each
    with closing(Spool(2_000_000, tmp_path)) as spool:
        kept = [spool.keep(heavy) for _ in range(20)]
        before = most = resident_bytes()
        for _ in range(500):
            kept.append(spool.keep(heavy))
            most = max(most, resident_bytes())
        length, pieces = write_answer(spool, kept, "v-1")
        sent = 0
        for piece in pieces:
            sent += len(piece)
            most = max(most, resident_bytes())
    assert sent == length > 200_000_000
    assert most - before < 20_000_000


def test_nothing_is_left_on_the_disk_and_nothing_has_a_name(tmp_path):
    with closing(Spool(0, tmp_path / "made" / "when needed")) as spool:
        spool.keep(prediction(1))
        assert not list((tmp_path / "made" / "when needed").iterdir())


def test_a_full_disk_costs_memory_but_no_answer(tmp_path, caplog):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with closing(Spool(0, tmp_path)) as spool:
        first = spool.keep(prediction(1))
        # Files may not grow beyond this: the second prediction fits in part, as on a disk that is nearly full.
        resource.setrlimit(resource.RLIMIT_FSIZE, (first.length + 20, hard))
        try:
            second, third = spool.keep(prediction(2)), spool.keep(prediction(3))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        fourth = spool.keep(prediction(4))
        assert [ticket.data is None for ticket in (first, second, third, fourth)] == [True, False, False, True]
        made = answer(spool, [first, second, third, fourth])["results"]
    assert made == [prediction(i) for i in (1, 2, 3, 4)]
    assert "stays in memory" in caplog.text
    assert os.fspath(tmp_path) not in caplog.text


def test_what_comes_after_the_end_is_dropped(tmp_path):
    spool = Spool(0, tmp_path)
    spool.close()
    assert spool.keep(prediction(1)) == Ticket(0, b"")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["Katze", "\u732b \U0001f408", 'a "quoted" \\ line\n', "half a pair \ud83d"])
def test_every_text_comes_back(text):
    assert json.loads(to_json({"label": text})) == {"label": text}
