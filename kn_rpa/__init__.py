"""`kn rpa`: jobs, browsers, login codes and the health of a deployment, on the command line."""

__version__ = "0.1.0"
