"""Readers: files on disk to arrays and pictures."""
