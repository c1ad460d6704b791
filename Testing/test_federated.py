"""Federated training: one site equals a training alone, what travels, the job that is written, faults in one line."""

from __future__ import annotations

import json
import shutil
import socket
import sys
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from test_walls import loaded_by
from train_tools import needs_nvflare, run, shrink_patches
from volumes import write_volumes

from MedAELib import Model
from MedAELib.errors import BadInput
from MedAELib.training.federated import command
from MedAELib.training.federated.federation import PRIVACIES, Federation, start
from MedAELib.training.federated.outcome import read_outcome
from MedAELib.training.federated.site import Site
from MedAELib.training.loop import train
from MedAELib.training.plan import make_plan
from MedAELib.training.recipes import RECIPES
from MedAELib.training.session import make_schedule

pytestmark = needs_nvflare

TINY = {"channels": [4, 6], "strides": [2, 2]}
OPTIONS = ["--network", "plain", "--modality", "MR", "--set", "channels=[4,6]", "--set", "strides=[2,2]"]
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def small_patches(monkeypatch) -> None:
    shrink_patches(monkeypatch)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_volumes(tmp_path_factory.mktemp("data") / "scans")


def federation(**what) -> Federation:
    return Federation(**{"network": "plain", "dims": 3, "modality": "MR", "rounds": 3, "steps": 2, "sites": 2,
                         "arguments": TINY, **what})  # fmt: skip


def test_the_top_level_command_loads_neither_torch_nor_flare():
    words = ["federate", "simulate", "--sites", "one", "--network", "plain", "--modality", "MR", "--output", "model"]
    code = f"from MedAELib.__main__ import main\nassert main({words}) == 2"
    assert not loaded_by(code) & {"torch", "monai", "nvflare"}


def test_the_command_names_what_the_library_has():
    assert set(command.PRIVACIES) == set(PRIVACIES) and set(command.NETWORKS) <= set(RECIPES)


def test_one_site_in_rounds_is_a_training_alone(folder, tmp_path):
    """The same weights bit for bit: start, patches, learning rates and the optimizer's memory all go on."""
    agreement = federation()
    site = Site(agreement, folder, tmp_path / "site", CPU, print)
    weights = start("plain", 3, TINY, 0).state_dict()
    for number in range(3):
        weights, loss = site.learn(number, weights)
    options = agreement.options()
    torch.manual_seed(0)
    plan = make_plan(options, site.parts, CPU)
    schedule = make_schedule(6, plan, options)
    train(plan.network, plan.batch, plan.objective(6), schedule, tmp_path / "alone", report=lambda row: None)
    assert loss > 0 and all(torch.equal(value, weights[name]) for name, value in plan.network.state_dict().items())


def test_a_round_begins_with_the_weights_that_came(folder, tmp_path):
    site = Site(federation(), folder, tmp_path / "site", CPU, print)
    first, _ = site.learn(0, start("plain", 3, TINY, 0).state_dict())
    ours, _ = site.learn(1, first)
    again = Site(federation(), folder, tmp_path / "again", CPU, print)
    again.learn(0, start("plain", 3, TINY, 0).state_dict())
    theirs, _ = again.learn(1, {name: value + 0.1 for name, value in first.items()})
    moved = max(float((theirs[name] - ours[name]).abs().max()) for name in ours)
    assert 0.05 < moved < 0.2


def test_a_site_that_comes_late_goes_on_from_the_round_of_the_others(folder, tmp_path):
    site = Site(federation(), folder, tmp_path / "site", CPU, print)
    site.learn(2, start("plain", 3, TINY, 0).state_dict())
    kept = torch.load(tmp_path / "site" / "training" / "last.pt", weights_only=True)
    assert kept["step"] == 6 and kept["history"][-1]["rate"] == pytest.approx(site.schedule.rate(5))


def test_a_site_sends_weights_figures_and_its_number_of_volumes_and_nothing_else(folder, tmp_path, monkeypatch):
    from MedAELib.training.federated import client

    federation(rounds=2).write(tmp_path / "federation.json")
    sent: list = []
    given = start("plain", 3, TINY, 0).state_dict()
    waiting = [Namespace(params=given, current_round=n) for n in range(2)]
    fake = Namespace(
        init=lambda: None, get_site_name=lambda: "a", is_running=lambda: bool(waiting),
        receive=lambda: waiting.pop(0), send=sent.append, FLModel=client.flare.FLModel,
    )  # fmt: skip
    monkeypatch.setattr(client, "flare", fake)
    (tmp_path / "sites.json").write_text(json.dumps({"a": str(folder)}))
    monkeypatch.setenv("MEDAE_SITE", str(tmp_path / "sites.json"))
    monkeypatch.setenv("MEDAE_DEVICE", "cpu")
    client.take_part(tmp_path / "federation.json")
    assert len(sent) == 2
    for model in sent:
        assert set(model.params) == set(given) and all(model.params[name].shape == given[name].shape for name in given)
        assert set(model.metrics) == {"loss", "held_out_psnr"}
        assert model.meta["NUM_STEPS_CURRENT_ROUND"] == 2  # four subjects: one each for validation and test


def test_a_site_without_a_folder_says_what_is_missing(monkeypatch):
    from MedAELib.training.federated.client import folder_of

    monkeypatch.delenv("MEDAE_SITE", raising=False)
    with pytest.raises(BadInput, match="MEDAE_SITE"):
        folder_of("a")


@pytest.mark.parametrize("privacy", PRIVACIES)
def test_export_writes_a_job_that_flare_accepts_without_a_path_of_this_machine(privacy, tmp_path):
    from nvflare.fuel.utils.zip_utils import zip_directory_to_bytes
    from nvflare.private.fed.server.job_meta_validator import JobMetaValidator

    job = tmp_path / "job"
    more = ["--privacy", privacy, *(["--privacy-set", "gamma=0.5"] if privacy != "none" else [])]
    assert run("federate", "export", *OPTIONS, *more, "--min-sites", 3, "--output", job) == 0
    accepted, why, meta = JobMetaValidator().validate("job", zip_directory_to_bytes("", str(job)))
    assert accepted, why
    assert meta["min_clients"] == 3
    texts = {path.name: path.read_text() for path in job.rglob("*") if path.is_file()}
    assert set(texts) == {"meta.json", "config_fed_server.json", "config_fed_client.json", "medae_site.py",
                          "federation.json"}  # fmt: skip
    for place in (str(tmp_path), str(Path(__file__).parents[1]), sys.prefix, str(Path.home()), socket.gethostname()):
        assert len(place) < 3 or not any(place in text for text in texts.values()), place
    client = json.loads(texts["config_fed_client.json"])
    filters = [one["filters"][0] for one in client["task_result_filters"]]
    assert [one["args"]["gamma"] for one in filters] == ([] if privacy == "none" else [0.5])
    assert json.loads(texts["config_fed_server.json"])["server"] == {"task_request_interval": 0.5}
    agreed = json.loads(texts["federation.json"])
    (workflow,) = json.loads(texts["config_fed_server.json"])["workflows"]
    assert workflow["args"] == {"num_clients": 3, "num_rounds": 50, "persistor_id": "persistor", "momentum": 0.8}
    assert agreed["momentum"] == 0.8
    assert agreed["spec"]["window"]["kind"] == "percentile" and agreed["privacy"] == privacy


def test_another_version_that_would_train_another_model_is_refused(tmp_path):
    path = tmp_path / "federation.json"
    federation().write(path)
    assert Federation.read(path) == federation()
    kept = json.loads(path.read_text())
    path.write_text(json.dumps({name: value for name, value in kept.items() if name != "momentum"}))
    assert Federation.read(path).momentum == 0  # an earlier version's: there was none
    kept["spec"]["window"]["high"] = 90.0
    path.write_text(json.dumps(kept))
    with pytest.raises(BadInput, match="another model"):
        Federation.read(path)
    path.write_text("[]")
    with pytest.raises(BadInput, match="no agreement"):
        Federation.read(path)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--sites", "a"], "at least two sites"),
        (["--sites", "a", "empty"], "empty holds no volumes"),
        (["--sites", "a", "nowhere"], "nowhere is no folder"),
        (["--sites", "a", "a"], "named twice"),
        (["--sites", "a", "b", "--rounds", "0"], "from 1 on"),
        (["--sites", "a", "b", "--momentum", "1"], "from 0 to 0.95"),
        (["--sites", "a", "b", "--momentum", "nan"], "from 0 to 0.95"),
        (["--sites", "a", "b", "--privacy", "svt", "--privacy-set", "sigma=1"], "has no setting 'sigma'"),
        (["--sites", "a", "b", "--privacy", "svt", "--privacy-set", "gamma=x"], "NAME=NUMBER"),
        (["--sites", "a", "b", "--objective", "mse,adversarial"], "critic"),
        (["--sites", "a", "b", "--objective", "msee"], "no 'msee'"),
        (["--sites", "a", "b", "--set", "colour=1"], "colour"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_sentence_before_any_work(more, words, folder, tmp_path, monkeypatch, capsys):
    for name in "ab":
        shutil.copytree(folder, tmp_path / name)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    assert run("federate", "simulate", *OPTIONS, *more, "--output", "model") == 2
    told = capsys.readouterr().err
    assert words in told and told.count("\n") == 1 and "Traceback" not in told
    assert not (tmp_path / "model").exists()


def test_without_flare_one_sentence_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "nvflare", None)
    assert run("federate", "export", *OPTIONS, "--output", tmp_path / "job") == 2
    assert "requirements-federated.txt" in capsys.readouterr().err and not (tmp_path / "job").exists()


def finished_job(folder: Path) -> dict[str, torch.Tensor]:
    """A folder as FLARE's `download_job` makes it; the weights in it."""
    (folder / "workspace" / "app_server" / "custom").mkdir(parents=True)
    federation(rounds=1).write(folder / "workspace" / "app_server" / "custom" / "federation.json")
    weights = {name: value + 1.0 for name, value in start("plain", 3, TINY, 0).state_dict().items()}
    torch.save({"model": weights, "train_conf": {}}, folder / "workspace" / "app_server" / "FL_global_model.pt")
    metric = [{"name": "loss", "value": 0.25}]
    row = {"round": 0, "aggregated_metrics": metric, "sites": [{"name": "clinic", "metrics": metric, "weight": 7.0}]}
    (folder / "workspace" / "metrics").mkdir()
    (folder / "workspace" / "metrics" / "round_metrics.jsonl").write_text(json.dumps(row) + "\n")
    return weights


def test_collect_makes_a_model_of_a_finished_job(tmp_path, capsys):
    weights = finished_job(tmp_path / "result")
    assert run("federate", "collect", tmp_path / "result", "--output", tmp_path / "model") == 0
    model = Model.load(tmp_path / "model")
    assert all(torch.equal(value, weights[name]) for name, value in model.network.state_dict().items())
    assert "clinic: 7 training volumes" in model.bundle.card and "None of the final weights" in model.bundle.card
    assert read_outcome(tmp_path / "result").rounds[0]["loss"] == 0.25


@pytest.mark.parametrize("damage", ["no weights", "half", "not finite", "other network"])
def test_collect_refuses_what_is_no_finished_job(damage, tmp_path, capsys):
    finished_job(tmp_path / "result")
    path = next((tmp_path / "result").rglob("FL_global_model.pt"))
    if damage == "no weights":
        path.unlink()
    elif damage == "half":
        path.write_bytes(path.read_bytes()[:300])
    else:
        value = torch.full((2,), torch.nan if damage == "not finite" else 1.0)
        torch.save({"model": {"odd": value}}, path)
    assert run("federate", "collect", tmp_path / "result", "--output", tmp_path / "model") == 2
    assert capsys.readouterr().err.count("\n") == 1 and not (tmp_path / "model").exists()
