"""``python -m pychip_live``."""

from pychip_live.cli import main

main()
