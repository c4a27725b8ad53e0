"""The engine: a profile made ready, the step a frame takes, and the loop around it."""
