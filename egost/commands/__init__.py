"""The sub-commands of `egost`, a file for each thing that a person does."""
