"""Explain: what a network finds typical, where a scan differs and at which scale, and what its code stands for."""
