"""The stages of a run, executed by Ray Tune."""
