"""The Ray Trainables: one epoch per step, exact save and load."""
