"""The child process that computes, and how Slicer starts it, talks to it, cancels it and survives it."""
