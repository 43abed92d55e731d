"""The paper's tables with our runs among the published rows.

`entries.find_entries` reads runs, `tables.leaderboard` makes the tables and refuses what is not comparable, and
`formats.written` writes them.
"""
