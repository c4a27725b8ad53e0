"""What lasts: profile folders, run records, exports."""
