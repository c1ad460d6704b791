"""Features: what a model's code says of a scan, as numbers of a fixed count, and which known scans are most alike."""
