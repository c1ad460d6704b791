"""The pieces of MedAE's panel, in a package: Slicer takes every loose .py beside MedAE.py for a module of its own."""
