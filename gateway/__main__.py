"""`python -m gateway` is `scheduling-gateway`."""

from gateway.cli import main

main()
