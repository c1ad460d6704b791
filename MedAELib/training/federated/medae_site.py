"""What a federated job runs at each site, in FLARE's client process: MedAE, installed there, does the work."""

from pathlib import Path

from MedAELib.training.federated.client import take_part

if __name__ == "__main__":
    take_part(Path(__file__).with_name("federation.json"))
