"""What every other group may use: errors, random seeds and streams, files, the schema of options."""
