"""What the loop does beside descending: the best weights, an early end, a critic in turns, several processes alike."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Generator, nn

from MedAELib.codec.one_thread import torch_alone
from MedAELib.errors import BadInput
from MedAELib.networks import build
from MedAELib.training import session
from MedAELib.training.denoise import denoising_error
from MedAELib.training.loop import Critic, Schedule, kept_course, train
from MedAELib.training.objectives import added_up, critic_error
from MedAELib.training.parallel import own_share, processes, rank_and_world, shareable
from MedAELib.training.self_supervised import blind_spot

ROOT = Path(__file__).resolve().parents[1]
KINDS = ("plain", "variational", "quantised", "adversarial")
MSE = added_up({"mse": 1.0})


def _batch(step: int) -> tuple[torch.Tensor, ...]:
    x = torch.rand(4, 1, 16, 16, generator=Generator().manual_seed(step))
    return x, x, torch.tensor([[4 * step + n, step] for n in range(4)])


def _network(name: str = "plain", **arguments: object) -> nn.Module:
    torch.manual_seed(0)
    return build(name, 2, {"channels": [4, 6], **arguments})


def _quiet(row: dict) -> None:
    pass


def test_the_best_weights_are_kept_and_nothing_better_ends_the_training(tmp_path):
    scores = iter([1.0, 5.0, 2.0, 3.0, 4.0, 9.0])
    seen = []

    def validate(network):
        seen.append({name: value.clone() for name, value in network.state_dict().items()})
        return {"score": next(scores)}

    schedule = Schedule(steps=60, validate_every=2, best="score", patience=3, averaging=0.5)
    best, history = train(_network(), _batch, MSE, schedule, tmp_path, validate=validate, report=_quiet)
    assert [row["step"] for row in history] == [2, 4, 6, 8, 10]
    for name, value in best.state_dict().items():
        assert torch.equal(value, seen[1][name])


def test_best_and_patience_survive_an_interruption(tmp_path):
    def validate(network):
        return {"score": -sum(float(value.square().sum()) for value in network.state_dict().values())}

    schedule = Schedule(steps=12, validate_every=2, checkpoint_every=2, best="score", warmup=1)
    options = {"validate": validate, "report": _quiet}
    whole, _ = train(_network(), _batch, MSE, schedule, tmp_path / "whole", **options)
    train(_network(), _batch, MSE, schedule, tmp_path / "broken", stop_after=5, **options)
    resumed, _ = train(_network(), _batch, MSE, schedule, tmp_path / "broken", resume=True, **options)
    for one, other in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("judged", ["code", "image"])
def test_a_training_with_a_critic_resumes_exactly(judged, tmp_path):
    def adversaries():
        network = _network("adversarial", latent=3, judged=judged)
        critic = network.critic()
        return network, added_up({"mse": 1.0, "adversarial": 0.01}, 5, critic), Critic(critic, critic_error)

    schedule = Schedule(steps=8, warmup=2, checkpoint_every=3)
    results = []
    for folder, stops in (("whole", [None]), ("broken", [4, None])):
        for n, stop in enumerate(stops):
            network, objective, critic = adversaries()
            before = [parameter.clone() for parameter in critic.network.parameters()]
            averaged, _ = train(
                network, _image_batch, objective, schedule, tmp_path / folder, resume=n > 0, stop_after=stop,
                critic=critic, report=_quiet,
            )  # fmt: skip
        results.append([*averaged.state_dict().values(), *critic.network.state_dict().values()])
        assert any(not torch.equal(a, b) for a, b in zip(before, critic.network.parameters(), strict=True))
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


def _image_batch(step: int) -> tuple[torch.Tensor, ...]:
    x = torch.rand(2, 1, 32, 32, generator=Generator().manual_seed(step))
    return x, x, torch.tensor([[2 * step + n, step] for n in range(2)])


def test_a_stop_ends_after_its_step_with_a_last_validation(tmp_path):
    schedule = Schedule(steps=50, validate_every=20)
    measured = {"score": 1.0}
    _, history = train(
        _network(), _batch, MSE, schedule, tmp_path, validate=lambda network: measured, stop=lambda step: step == 3,
        report=_quiet,
    )  # fmt: skip
    assert [(row["step"], row["score"]) for row in history] == [(3, 1.0)]
    assert torch.load(tmp_path / "last.pt", weights_only=True)["step"] == 3


def test_no_batch_is_made_that_is_not_used(tmp_path):
    made = []

    def batch(step):
        made.append(step)
        return _batch(step)

    train(_network(), batch, MSE, Schedule(steps=9), tmp_path, stop_after=4, report=_quiet)
    assert made == [0, 1, 2, 3]


def test_only_pinned_memory_is_let_go_before_it_is_copied(tmp_path, monkeypatch):
    """An Apple GPU would read what the next batch was written over: only CUDA keeps a batch, and only a pinned one."""
    copy, hasty = torch.Tensor.to, []

    def noted(tensor, *given, non_blocking=False, **named):
        hasty.append(non_blocking and not tensor.is_pinned())
        return copy(tensor, *given, non_blocking=non_blocking, **named)

    monkeypatch.setattr(torch.Tensor, "to", noted)
    train(_network(), _batch, MSE, Schedule(steps=2), tmp_path, report=_quiet)
    assert len(hasty) >= 6 and not any(hasty)


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    from MedAELib.errors import DiskFull
    from MedAELib.training import loop

    schedule = Schedule(steps=9, checkpoint_every=2)
    train(_network(), _batch, MSE, schedule, tmp_path, stop_after=2, report=_quiet)
    kept = (tmp_path / "last.pt").read_bytes()

    def full(parts, path):
        path.write_bytes(b"half")
        raise RuntimeError("PytorchStreamWriter failed writing file: file write failed")

    monkeypatch.setattr(loop.torch, "save", full)
    with pytest.raises(DiskFull):
        train(_network(), _batch, MSE, schedule, tmp_path, resume=True, report=_quiet)
    assert (tmp_path / "last.pt").read_bytes() == kept
    assert not (tmp_path / "last.pt.part").exists()
    assert not list(tmp_path.glob(".medae-*"))


@pytest.mark.parametrize(("world", "samples"), [(1, 2), (2, 2), (3, 3), (4, 4), (8, 8)])
def test_a_batch_grows_to_what_all_processes_can_share(world, samples, monkeypatch):
    monkeypatch.setattr("MedAELib.training.parallel.rank_and_world", lambda: (0, world))
    assert shareable(2) == samples
    assert shareable(32) == (33 if world == 3 else 32)


def test_a_batch_that_cannot_be_shared_evenly_is_refused(monkeypatch):
    monkeypatch.setattr("MedAELib.training.parallel.rank_and_world", lambda: (1, 2))
    assert own_share((torch.arange(4), torch.arange(8).view(4, 2)))[0].tolist() == [1, 3]
    with pytest.raises(BadInput, match="cannot be shared"):
        own_share((torch.arange(3),))


def _missing_batch(step: int) -> tuple[torch.Tensor, ...]:
    """Two modalities, the second of which one of the samples lacks."""
    x = torch.rand(4, 2, 16, 16, generator=Generator().manual_seed(step))
    x[step % 4, 1] = torch.nan
    return x, x, _batch(step)[2], x.isfinite().flatten(2).any(2).float()


def _blind_batch(step: int) -> tuple[torch.Tensor, ...]:
    generator = Generator().manual_seed(step)
    seen, target = zip(*[blind_spot(torch.rand(16, 16, 1, generator=generator), generator) for _ in range(4)])
    return *(torch.stack(part)[:, None, ..., 0] for part in (seen, target)), _batch(step)[2]


def _noisy_batch(step: int) -> tuple[torch.Tensor, ...]:
    """Noise whose level is known in another share of each sample."""
    clean, noise, where, lesions = torch.randn(4, 4, 1, 16, 16, generator=Generator().manual_seed(step)).unbind(1)
    level = torch.where(where > torch.linspace(-1, 1, 4)[:, None, None, None], 0.1, torch.nan)[..., ::2, ::2]
    return clean + noise, clean, level, lesions


def _denoiser() -> nn.Module:
    torch.manual_seed(0)
    return build("denoising", 2, {"channels": 4, "blocks": 1})


MASKED = {
    "fusion": (lambda: _network("fusion", modalities=2), _missing_batch, MSE),
    "blind spot": (_network, _blind_batch, MSE),
    "denoising": (_denoiser, _noisy_batch, denoising_error),
}


def _train_all(out: Path) -> None:
    """Train a network of each kind that shares its batches in a way of its own, and keep the weights."""
    with processes(torch.device("cpu")):
        schedule = Schedule(steps=6, warmup=2, checkpoint_every=3)
        for name in KINDS:
            network = _network(name)
            judge = network.critic() if name == "adversarial" else None
            terms = {"variational": "kl", "quantised": "commitment", "adversarial": "adversarial"}
            objective = added_up({"mse": 1.0, terms.get(name, "l1"): 0.1}, 3, judge)
            critic = Critic(judge, critic_error) if judge else None
            averaged, _ = train(network, _batch, objective, schedule, out / name, critic=critic, report=_quiet)
            if rank_and_world()[0] == 0:
                torch.save(averaged.state_dict(), out / f"{name}.pt")
        for name, (make, batch, objective) in MASKED.items():
            averaged, _ = train(make(), batch, objective, schedule, out / name, report=_quiet)
            if rank_and_world()[0] == 0:
                torch.save(averaged.state_dict(), out / f"{name}.pt")
        _, history = train(_network(), _batch, MSE, Schedule(steps=4, validate_every=2), out / "curve", report=_quiet)
        (out / f"losses{rank_and_world()[0]}.json").write_text(json.dumps([row["loss"] for row in history]))


SCRIPT = """
import sys, torch
sys.path[:0] = [{root!r}, {testing!r}]
torch.set_num_threads(1)
from pathlib import Path
from test_training_loop import _train_all
_train_all(Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_one_and_two_processes_give_the_same_weights_and_curves(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(SCRIPT.format(root=str(ROOT), testing=str(ROOT / "Testing")))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    done = subprocess.run([*torchrun, str(script), str(tmp_path / "two")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with torch_alone():
        _train_all(tmp_path / "one")
    for name in (*KINDS, *MASKED):
        one, two = (torch.load(tmp_path / count / f"{name}.pt", weights_only=True) for count in ("one", "two"))
        for key, value in one.items():
            assert torch.allclose(value, two[key], atol=1e-6), (name, key)
    wanted = json.loads((tmp_path / "one" / "losses0.json").read_text())
    for rank in (0, 1):
        assert json.loads((tmp_path / "two" / f"losses{rank}.json").read_text()) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize(("critic", "steps"), [(False, 81), (True, 40)])
def test_the_steps_that_fit_into_a_time_count_the_turn_of_a_critic(critic, steps, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(session.time, "perf_counter", lambda: clock[0])

    def error(network: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        clock[0] += 1
        return network(batch[0]).sum()

    plan = SimpleNamespace(
        network=nn.Linear(1, 1),
        batch=lambda step: (torch.ones(1, 1),),
        objective=lambda steps: error,
        critic=Critic(nn.Linear(1, 1), lambda judge, network, batch: error(judge, batch)) if critic else None,
    )
    before = [parameter.clone() for parameter in (*plan.network.parameters(),)]
    assert session._steps_in(90, plan) == steps
    assert session._steps_in(-3, plan) == 1
    assert all(torch.equal(*pair) for pair in zip(before, plan.network.parameters(), strict=True))


def test_the_steps_that_fit_into_a_time_have_their_batches_from_as_many_threads_as_in_training(monkeypatch):
    monkeypatch.setattr(session, "threads_beside", lambda device: 4)

    def batch(step):
        time.sleep(0.1)
        return (torch.ones(1, 1),)

    plan = SimpleNamespace(
        network=nn.Linear(1, 1), batch=batch, objective=lambda steps: lambda network, parts: network(parts[0]).sum(),
        critic=None,
    )  # fmt: skip
    assert session._steps_in(10, plan) > 2 * 0.9 * 10 / 0.1


@pytest.mark.parametrize("stops", [(3,), (5, 7), (6,)])
@pytest.mark.parametrize("best_at", [3, 5, 8])
def test_a_training_that_was_stopped_resumes_as_if_nothing_had_happened(stops, best_at, tmp_path):
    """The validation that a stop makes is neither a best moment nor counts for the patience of the resumed training."""

    def trained(folder: Path, stop_at: int, resume: bool) -> tuple[nn.Module, list[dict]]:
        network, step = _network(), [0]

        def stop(number: int) -> bool:
            step[0] = number
            return number == stop_at

        return train(
            network, _batch, MSE, schedule, folder, resume=resume, report=_quiet, stop=stop,
            validate=lambda network: {"score": -abs(step[0] - best_at)},
        )  # fmt: skip

    schedule = Schedule(steps=40, validate_every=2, checkpoint_every=2, best="score", patience=3, warmup=1)
    whole, history = trained(tmp_path / "whole", 0, False)
    for number, stop in enumerate(stops):
        stopped, short = trained(tmp_path / "broken", stop, number > 0)
        assert short[-1]["step"] == stop  # it is measured, and the model that is written now may be that
    resumed, told = trained(tmp_path / "broken", 0, True)
    assert [row["step"] for row in told] == [row["step"] for row in history]
    assert [row["loss"] for row in told] == [row["loss"] for row in history]
    for one, other in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    if stops == (3,) and best_at == 3:
        assert any(not torch.equal(a, b) for a, b in zip(stopped.parameters(), resumed.parameters(), strict=True))


def test_a_training_that_ended_for_want_of_anything_better_is_at_its_end_when_resumed(tmp_path):
    schedule = Schedule(steps=40, validate_every=2, best="score", patience=2)
    options = {"validate": lambda network: {"score": 1.0}, "report": _quiet}
    _, history = train(_network(), _batch, MSE, schedule, tmp_path, **options)
    assert history[-1]["step"] == 6
    assert train(_network(), _batch, MSE, schedule, tmp_path, resume=True, **options)[1] == history


def test_seconds_and_devices_of_all_runs_are_kept(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("MedAELib.training.loop.time.perf_counter", lambda: clock[0])

    def batch(step):
        clock[0] += 10
        return _batch(step)

    monkeypatch.setattr("MedAELib.training.loop.prefetched", _one_by_one)
    schedule = Schedule(steps=9, checkpoint_every=2)
    train(_network(), batch, MSE, schedule, tmp_path, stop_after=4, report=_quiet)
    assert kept_course(tmp_path) == (40.0, ["cpu"])
    kept = torch.load(tmp_path / "last.pt", weights_only=True)
    torch.save(kept | {"devices": ["cuda"]}, tmp_path / "last.pt")
    train(_network(), batch, MSE, schedule, tmp_path, resume=True, report=_quiet)
    assert kept_course(tmp_path) == (90.0, ["cuda", "cpu"])
    torch.save({name: kept[name] for name in kept if name not in ("seconds", "devices")}, tmp_path / "last.pt")
    assert kept_course(tmp_path) == (0.0, ["cpu"])  # of an earlier version


@contextmanager
def _one_by_one(batch, first, last, *_):
    yield (batch(step) for step in range(first, last))
