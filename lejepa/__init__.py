"""A reference LeJEPA trainer, with the baselines that it is compared to. Knows nothing of sweeps."""
