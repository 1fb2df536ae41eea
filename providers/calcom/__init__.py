"""Cal.com: `api`, its REST API."""
