"""report.html, report.md and the CSV tables."""
