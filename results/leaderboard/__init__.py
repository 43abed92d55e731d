"""The paper's tables with our runs beside the published rows, and what may not stand there."""
