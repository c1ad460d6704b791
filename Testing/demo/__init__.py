"""The demo: a noisy head goes through MedAE's real panel, worker and MRML scene; `python run.py demo` starts it."""
