"""Delivery of trials and results to MLflow."""
