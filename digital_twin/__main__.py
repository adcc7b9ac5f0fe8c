"""python -m digital_twin is the digital-twin command."""

import sys

from digital_twin.cli.main import main

sys.exit(main())
