"""Cal ID: `api`, its REST API."""
