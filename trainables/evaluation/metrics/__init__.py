"""Protocols, specs of metrics, scores and detectors, and the functions that compute metrics."""
