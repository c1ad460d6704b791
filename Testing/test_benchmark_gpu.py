"""The benchmark of a graphics card: it counts as it says, and goes on after a section that fails or hangs."""

from __future__ import annotations

import argparse
import json
import time

import pytest
import torch
from benchmarks import gpu
from benchmarks.gpu_network import Traffic
from benchmarks.gpu_section import TRIAL, Section, make_volume


def test_traffic_is_what_is_read_and_written():
    x = torch.zeros(1000)
    with Traffic() as traffic:
        y = x + 1
        y.view(10, 100).transpose(0, 1)
    assert traffic.bytes == 2 * 4000


def told(folder):
    return [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]


def test_a_section_that_fails_says_so_and_the_next_one_runs(tmp_path, monkeypatch):
    def fails(section):
        raise RuntimeError("no such kernel")

    good = lambda section: section.tell("rate", 3.0, "GB/s")  # noqa: E731
    monkeypatch.setattr(gpu, "SECTIONS", {"bad": (fails, 5), "good": (good, 5)})
    gpu.work_through(["bad", "good"], "cpu", TRIAL, tmp_path)
    rows = told(tmp_path)
    assert "no such kernel" in next(row["value"] for row in rows if row["what"] == "FAILED")
    assert next(row for row in rows if row["what"] == "rate")["value"] == 3.0
    assert "| good | rate | 3 | GB/s |  |" in gpu.table(rows, "here")


@pytest.mark.parametrize(
    "code, why", [("raise SystemExit('a driver fault')", "a driver fault"), ("import time; time.sleep(60)", "too long")]
)
def test_a_process_that_dies_or_hangs_costs_one_section(tmp_path, monkeypatch, code, why):
    script = tmp_path / "script.py"
    script.write_text(
        f"import json, pathlib, sys\nname = sys.argv[sys.argv.index('--only') + 1]\nif name == 'first':\n    {code}\n"
        f"print(json.dumps({{'ended': name}}), file=open({str(tmp_path / 'progress.jsonl')!r}, 'a'))\n"
    )
    monkeypatch.setattr(gpu, "__file__", str(script))
    monkeypatch.setattr(gpu, "SECTIONS", {"first": (None, 1), "second": (None, 30)})
    options = argparse.Namespace(output=tmp_path, device="cpu", trial=True)
    lane = gpu.Lane(["first", "second"], options, [0], time.monotonic() + 60)
    lane.run()
    assert lane.names == []
    assert [(row["section"], row["what"]) for row in told(tmp_path)] == [("first", "FAILED")]
    assert why in told(tmp_path)[0]["value"]


def test_a_process_that_hangs_after_its_last_section_is_ended_without_a_complaint(tmp_path, monkeypatch):
    script = tmp_path / "script.py"
    script.write_text(
        f"import json, time\nwith open({str(tmp_path / 'progress.jsonl')!r}, 'a') as file:\n"
        "    file.write(json.dumps({'ended': 'only'}) + chr(10))\ntime.sleep(30)\n"
    )
    monkeypatch.setattr(gpu, "__file__", str(script))
    monkeypatch.setattr(gpu, "SECTIONS", {"only": (None, 30)})
    begun, options = time.monotonic(), argparse.Namespace(output=tmp_path, device="cpu", trial=True)
    gpu.Lane(["only"], options, [0], begun + 2).run()
    assert time.monotonic() - begun < 20
    assert not (tmp_path / "rows.jsonl").exists()


def test_the_middle_of_a_generated_volume_is_read(tmp_path):
    make_volume("ct", tmp_path, TRIAL)
    section = Section("any", torch.device("cpu"), TRIAL, tmp_path)
    assert section.volume("ct").shape == TRIAL.large
    assert section.volume("ct", (10, 12, 14)).shape == (10, 12, 14)
    with pytest.raises(TimeoutError, match="mr"):
        section.volume("mr", wait=0)
