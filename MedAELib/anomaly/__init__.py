"""Where a scan is unlike normal ones: grid, masks, scores, calibration and regions."""
