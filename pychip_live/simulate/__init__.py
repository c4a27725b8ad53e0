"""A simulated microscope: a specimen with known phase fractions, and writers like real ones."""
