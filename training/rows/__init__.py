"""Training rows: built from a release or read from the published ones, with reverse thinking and splits."""
