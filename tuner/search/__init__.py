"""Samplers, stopping rules and budgets: which configuration is next and which trial goes on."""
