"""Reading records of ade-100-5's size (11 steps, 150 classes), and turning 100 of ade-100-10's into rows.

`pytest benchmarks/kernels/bench_records.py --benchmark-enable --benchmark-only -n0`
"""

from pathlib import Path

from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.kernels.many_records import write_records
from reports.board import build_boards
from reports.load import load_records
from reports.record import read


def test_read(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    (path,) = write_records(tmp_path, 1, 1, 1, steps=11)
    benchmark.pedantic(read, (path,), rounds=50, warmup_rounds=3)


def test_boards_of_100_records(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    write_records(tmp_path, 1, 20, 5)
    records, problems = load_records(tmp_path)
    assert not problems
    benchmark.pedantic(build_boards, (records,), rounds=5, warmup_rounds=1)
