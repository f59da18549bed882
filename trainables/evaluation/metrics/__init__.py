"""What is measured of a classifier, as data, and the metrics themselves."""
