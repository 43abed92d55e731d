"""One self-contained HTML file about a run, or about two to compare.

The way in is `page.report_page`.
"""
