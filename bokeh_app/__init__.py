"""The Bokeh server dashboard (not built yet); it may import core, messages and errors only."""
