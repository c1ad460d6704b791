"""The job of a federation, as NVIDIA FLARE takes it: server, client script, agreement, privacy filter; no data."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from MedAELib.errors import BadInput, MissingPackage, unwritable
from MedAELib.training.federated.federation import FILE, Federation

NAME = "medae"
SCRIPT = "medae_site.py"
_ASK_EVERY = 0.5  # s in which a site asks for its next task; with FLARE's 2 s most of a short round is waiting


def write_job(federation: Federation, folder: Path) -> None:
    """Write the job folder, wholly or not at all. Raises MissingPackage without nvflare, BadInput, DiskFull."""
    check_flare()
    if folder.exists():
        raise BadInput(f"{folder} is there already.", "Name a new folder for the job.")
    with tempfile.TemporaryDirectory(prefix="medae-job-") as place:
        agreement = Path(place, FILE)
        federation.write(agreement)
        _job(federation, agreement).export_job(str(Path(place, "jobs")))
        beside = folder.with_name(f".{folder.name}.medae-saving")
        shutil.rmtree(beside, ignore_errors=True)
        try:
            shutil.copytree(Path(place, "jobs", NAME), beside)
            beside.rename(folder)
        except OSError as error:
            raise unwritable(folder, error) from error
        finally:
            shutil.rmtree(beside, ignore_errors=True)


def check_flare() -> None:
    """Raises MissingPackage when NVIDIA FLARE is not installed."""
    try:
        import nvflare  # noqa: F401
    except ImportError:
        raise MissingPackage(
            "Federated training needs the Python package nvflare, which is not installed.",
            "Install it with: pip install -r requirements-federated.txt",
        ) from None


def _job(federation: Federation, agreement: Path) -> Any:
    """FLARE's federated averaging with momentum; only differences travel where a filter shall see them."""
    from nvflare.app_common.executors.client_api_executor import ClientAPIExecutor, ExecutionMode
    from nvflare.app_opt.pt.job_config.model import PTModel
    from nvflare.client.config import ExchangeFormat, TransferType
    from nvflare.job_config.base_fed_job import BaseFedJob
    from nvflare.job_config.defs import FilterType

    from MedAELib.training.federated.server import MomentumAveraging

    spec = federation.spec()
    network = {"name": spec.network, "dims": spec.dims, "arguments": dict(spec.arguments), "seed": federation.seed}
    job = BaseFedJob(name=NAME, min_clients=federation.sites, key_metric="held_out_psnr")
    job.set_app_packages(["MedAELib"])  # is installed at the sites and does not travel
    job.to_server(PTModel({"path": "MedAELib.training.federated.federation.start", "args": network}), id="persistor")
    job.to_server(MomentumAveraging(
        num_clients=federation.sites, num_rounds=federation.rounds, persistor_id="persistor",
        momentum=federation.momentum,
    ))  # fmt: skip
    job.to_server({"server": {"task_request_interval": _ASK_EVERY}})
    job.add_file_to_server(str(agreement))
    executor = ClientAPIExecutor(
        execution_mode=ExecutionMode.IN_PROCESS,
        task_script_path=SCRIPT,
        params_exchange_format=ExchangeFormat.PYTORCH,
        params_transfer_type=TransferType.FULL if federation.privacy == "none" else TransferType.DIFF,
    )
    job.to_clients(executor, tasks=["train"])
    chosen = _filter(federation)
    if chosen is not None:
        job.to_clients(chosen, filter_type=FilterType.TASK_RESULT, tasks=["train"])
    job.add_file_to_clients(str(Path(__file__).with_name(SCRIPT)))
    job.add_file_to_clients(str(agreement))
    return job


def _filter(federation: Federation) -> Any:
    """FLARE's own privacy filter of this name, or None."""
    settings = dict(federation.privacy_settings)
    if federation.privacy == "percentile":
        from nvflare.app_common.filters.percentile_privacy import PercentilePrivacy

        return PercentilePrivacy(**settings)
    if federation.privacy == "svt":
        from nvflare.app_common.filters.svt_privacy import SVTPrivacy

        return SVTPrivacy(**settings)
    return None
