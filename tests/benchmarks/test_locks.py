"""Locks between runners: one holder at a time, a dead one is replaced, nobody waits for what is done."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from benchmarks import locks
from benchmarks.locks import Holder, Locks, myself

ELSEWHERE = Holder("node7", "another boot", 4242, "1", "123_4", note={"run": "voc-15-1 mib/seed-0"})


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "BEAT", 0.05)
    monkeypatch.setattr(locks, "STALE", 0.3)
    monkeypatch.setattr(locks, "POLL", 0.02)


def write(folder: Path, number: int, holder: Holder) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{number}.json").write_text(json.dumps(asdict(holder)))


def test_one_holds_it_until_it_is_released(tmp_path: Path) -> None:
    lock = Locks(tmp_path).take("step", {"run": "mib"})
    assert lock is not None
    other = Locks(tmp_path)
    assert other.take("step") is None
    holder = other.holder("step")
    assert holder is not None and holder.pid == os.getpid() and holder.note == {"run": "mib"}
    lock.release(done=False)
    assert other.holder("step") is None
    second = other.take("step")
    assert second is not None
    second.release(done=True)
    assert not list(tmp_path.iterdir())


def test_its_beat_tells_how_far_it_is(tmp_path: Path) -> None:
    lock = Locks(tmp_path).take("step")
    assert lock is not None
    lock.note({"iteration": 7})
    time.sleep(0.3)
    holder = Locks(tmp_path).holder("step")
    assert holder is not None and holder.beat >= 2 and holder.note == {"iteration": 7}
    lock.release(done=False)


def test_who_beats_on_another_machine_keeps_it(tmp_path: Path) -> None:
    seen = Locks(tmp_path)
    for beat in range(10):
        write(tmp_path / "step", 1, replace(ELSEWHERE, beat=beat))
        assert seen.take("step") is None
        time.sleep(0.05)
    assert str(ELSEWHERE) == "node7:4242 (job 123_4)"


def test_who_stopped_beating_loses_it_by_the_watcher_s_own_clock(tmp_path: Path) -> None:
    write(tmp_path / "step", 3, ELSEWHERE)
    os.utime(tmp_path / "step/3.json", (0, 0))  # another machine's clock may say anything
    seen = Locks(tmp_path)
    assert seen.take("step") is None
    time.sleep(0.35)
    lock = seen.take("step")
    assert lock is not None and lock.entry.name == "4.json"
    lock.release(done=False)


def test_a_process_that_is_gone_loses_it_at_once(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    write(tmp_path / "a", 1, replace(myself(), pid=child.pid, born="5"))
    child.wait()
    write(tmp_path / "b", 1, replace(myself(), born="another process had this number"))
    for key in ("a", "b"):
        lock = Locks(tmp_path).take(key)
        assert lock is not None
        lock.release(done=True)


def test_a_parent_holds_it_for_its_child(tmp_path: Path) -> None:
    lock = Locks(tmp_path).take("step")
    assert lock is not None
    code = (
        "import sys; from pathlib import Path; from benchmarks.locks import Locks\n"
        "sys.exit(Locks(Path(sys.argv[1])).take('step') is None)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == 0
    lock.release(done=True)


def test_the_same_pid_in_a_container_says_nothing(tmp_path: Path) -> None:
    write(tmp_path / "step", 1, replace(ELSEWHERE, host=myself().host))
    assert Locks(tmp_path).take("step") is None


def test_a_file_that_cannot_be_read_is_somebody_s_until_it_is_old(tmp_path: Path) -> None:
    (tmp_path / "step").mkdir()
    (tmp_path / "step/1.json").write_text("{")
    seen = Locks(tmp_path)
    assert seen.take("step") is None
    time.sleep(0.35)
    lock = seen.take("step")
    assert lock is not None
    lock.release(done=True)


def test_what_is_done_is_not_waited_for(tmp_path: Path) -> None:
    write(tmp_path / "step", 1, ELSEWHERE)
    waited: list[Holder] = []
    answers = iter([False, False, False, True])
    with Locks(tmp_path).hold("step", lambda: next(answers, True), waited.append) as lock:
        assert lock is None
    assert waited == [ELSEWHERE]


def test_a_file_system_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    lock = Locks(tmp_path).take("step")
    assert lock is not None and Locks(tmp_path).take("step") is None
    lock.release(done=True)


def fight(folder: str, rounds: int) -> None:
    """Adds to a counter, a file that only the holder may touch."""
    seen, counter = Locks(Path(folder) / "locks"), Path(folder) / "counter"
    for _ in range(rounds):
        with seen.hold("count", lambda: False, lambda _: None) as lock:
            assert lock is not None
            value = int(counter.read_text())
            time.sleep(0.001)
            counter.write_text(str(value + 1))


def test_many_fight_for_one(tmp_path: Path) -> None:
    (tmp_path / "counter").write_text("0")
    context = multiprocessing.get_context("fork")
    fighters = [context.Process(target=fight, args=(str(tmp_path), 10)) for _ in range(4)]
    for fighter in fighters:
        fighter.start()
    for fighter in fighters:
        fighter.join(60)
    assert (tmp_path / "counter").read_text() == "40"


def test_kill_9_of_the_holder(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from benchmarks.locks import Locks\n"
        "lock = Locks(Path(sys.argv[1])).take('step'); print('held', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline() == "held\n"
    assert Locks(tmp_path).take("step") is None
    child.send_signal(signal.SIGKILL)
    with Locks(tmp_path).hold("step", lambda: False, lambda _: None) as lock:
        assert lock is not None  # at once, though the dead process is not waited for yet
    child.wait()
