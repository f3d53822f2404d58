"""`python -m kn_rpa`, the same as `kn-rpa`."""

import sys

from kn_rpa.cli import main

sys.exit(main())
