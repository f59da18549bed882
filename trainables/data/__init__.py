"""Data sets, their splits and roles, outliers, and device-resident loading."""
