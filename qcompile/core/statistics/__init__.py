"""What calibration gathers about a value: one mergeable statistic a file."""
