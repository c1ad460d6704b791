"""Translation from one kind of scan to another: the command, and what a model knows of the scans it learned from."""
