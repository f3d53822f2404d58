"""`python -m rpa_worker`: the same as `rpa-worker`."""

import sys

from rpa_worker.runner.command import main

sys.exit(main())
