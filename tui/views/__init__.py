"""The views of the dashboard, each a table of columns: what is listed, what its cells say, how it sorts."""
