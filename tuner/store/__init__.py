"""What a run keeps on disk and in its database, and which driver may write it."""
