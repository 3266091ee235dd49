"""How fast the engine is beside a pipeline written by hand, as ratios taken in one run."""
