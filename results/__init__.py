"""What a run is worth: run records, tables and comparisons."""
