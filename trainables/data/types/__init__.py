"""What a data set is: its splits, files, places and roles; readable without torch."""
