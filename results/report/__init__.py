"""One self-contained HTML file about a run, or about two side by side."""
