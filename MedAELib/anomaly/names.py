"""What the anomaly task calls its further outputs and its calibrations. Known before any work, without torch."""

from __future__ import annotations

# Every score that may be a map beside the first one; the combined map is always the first.
OTHERS = ("unlike", "residual", "average", "bright", "contrast", "asymmetry", "smooth")
MAP = "map_"  # before their names among the outputs, where "residual" is the scan minus the typical scan
STEPS = ("mask", "field", "seen")  # of the preparation, see `steps.steps_of`
STEP = "step_"  # before these
# In whose unit scores become z: the scan's own, or one for all scans, that of the normal scans together.
SCAN, POPULATION = "scan", "population"
CALIBRATIONS = (SCAN, POPULATION)
RAREST = 0.0005  # share of normal tissue: rarer was not measured on normal scans
