"""Live phase fractions beside an electron microscope."""

__version__ = "0.1.0"
