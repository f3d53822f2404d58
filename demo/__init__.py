"""The demo: four portals, a worker, an ORDS stand-in, and jobs that show what the system does."""
