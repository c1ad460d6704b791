"""A generated head with noise: CT or T1-weighted MRI, different for each seed, with a noise-free version to judge by.

    phantom = head("CT", seed=1)
    noisy = add_noise(phantom, level=15.0)

Anatomy is in `anatomy.py` (skull and face) and `brain.py`, noise in `noise.py`; numpy and scipy only.
"""

from .anatomy import Lesion, Phantom, head
from .noise import add_noise

__all__ = ["Lesion", "Phantom", "add_noise", "head"]
