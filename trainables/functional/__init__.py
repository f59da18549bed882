"""Formulas that methods share: losses, attacks, noise, decision boundaries; pure functions of tensors."""
