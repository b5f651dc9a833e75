"""How close reconstructions are to the ground truth, in figures and in sentences."""
