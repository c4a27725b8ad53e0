"""Where frames come from: a watched folder today, streams and a simulator beside it."""
