# Slicer's packaging step, which the stand-in leaves out.
