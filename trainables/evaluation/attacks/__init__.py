"""Attacks that measure robustness, of accuracy and of OOD detection."""
